"""Kills for memory, as the kernel counts them in files; and that a real SIGKILL beside such a count has its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from offgridd.effects.cgroup import FRESH, OomKills


@pytest.fixture
def group(tmp_path: Path) -> Path:
    made = tmp_path / "cgroup" / "system.slice" / "offgridd.service"
    made.mkdir(parents=True)
    (tmp_path / "member").write_text("5:memory:/old\n0::/system.slice/offgridd.service\n")
    return made


def kills(tmp_path: Path) -> OomKills:
    return OomKills(tmp_path / "cgroup", tmp_path / "member", tmp_path / "vmstat")


def test_they_are_counted(tmp_path: Path, group: Path) -> None:
    (group / "memory.events").write_text("low 0\nhigh 3\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert kills(tmp_path).count() == 2


def test_they_are_counted_where_memory_is_in_the_first_version(tmp_path: Path) -> None:
    """One of a hybrid machine: the unified hierarchy is there, and has no memory controller."""
    old = tmp_path / "cgroup" / "memory" / "old"
    old.mkdir(parents=True)
    (tmp_path / "member").write_text("5:cpu,memory:/old\n4:pids:/\n0::/\n")
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    found = kills(tmp_path)
    assert found.count() == 3
    (old / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    assert [found.another() for _ in range(2)] == [True, False]


def test_at_the_root_the_machine_counts_them(tmp_path: Path) -> None:
    (tmp_path / "cgroup").mkdir()
    (tmp_path / "member").write_text("0::/\n")
    (tmp_path / "vmstat").write_text("pgfault 17\noom_kill 5\nnuma_hit 3\n")
    found = kills(tmp_path)
    (tmp_path / "vmstat").write_text("pgfault 18\noom_kill 6\nnuma_hit 3\n")
    assert [found.another() for _ in range(2)] == [True, False]


@pytest.mark.parametrize("text", ["", "oom_kill\n", "oom_kill x\n", "oom 2\n"])
def test_what_does_not_say_is_not_known(tmp_path: Path, group: Path, text: str) -> None:
    (group / "memory.events").write_text(text)
    assert kills(tmp_path).count() is None


def test_without_a_controller_it_is_not_known(tmp_path: Path, group: Path) -> None:
    assert kills(tmp_path).count() is None
    (tmp_path / "member").write_text("5:memory:/old\n")
    assert kills(tmp_path).count() is None
    (tmp_path / "member").unlink()
    assert kills(tmp_path).count() is None


def test_each_kill_has_one_victim(tmp_path: Path, group: Path) -> None:
    (group / "memory.events").write_text("oom_kill 2\n")
    found = kills(tmp_path)
    assert not found.another(), "those were before us"
    (group / "memory.events").write_text("oom_kill 4\n")
    assert [found.another() for _ in range(3)] == [True, True, False]


def test_a_kill_of_something_else_is_not_put_down_to_who_is_ended_later(tmp_path: Path, group: Path) -> None:
    (group / "memory.events").write_text("oom_kill 2\n")
    now = 100.0
    found = OomKills(tmp_path / "cgroup", tmp_path / "member", clock=lambda: now)
    (group / "memory.events").write_text("oom_kill 3\n")
    found.look()
    now += FRESH + 1
    assert not found.another()
    (group / "memory.events").write_text("oom_kill 4\n")
    assert [found.another() for _ in range(2)] == [True, False]
