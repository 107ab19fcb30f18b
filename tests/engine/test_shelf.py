"""Prefixes on disk: what is kept is there in the next life, whole or not at all, and within its bounds."""

from __future__ import annotations

import os
import queue
import stat
import time
from pathlib import Path

import pytest
from support.rig import until

from offgridd.engine import shelf as shelves
from offgridd.engine.shelf import ABANDONED, LOOK, TOUCH, Shelf
from offgridd.engine.shelffile import Saved, write
from offgridd.engine.shelfindex import Index

LONG = [*range(1000, 1200)]
ROOM = 1 << 20


def made(folder: Path, budget: int = ROOM, key: str = "key") -> Shelf:
    return Shelf(folder, key, budget)


def brought(shelf: Shelf, tokens: list[int], have: int = 0, *, whole: bool = False, room: int = ROOM) -> list[Saved]:
    """What is found and read."""
    came = queue.SimpleQueue[list[Saved]]()
    shelf.fetch(shelf.find(tokens, have, whole=whole, room=room), came.put)
    return came.get(timeout=10)


def kept(folder: Path, *saved: Saved, budget: int = ROOM) -> list[Path]:
    """The files, in the order in which they were made."""
    shelf, paths = made(folder, budget), list[Path]()
    for one in saved:
        before = set(folder.glob("*.prefix"))
        shelf.keep(*one)
        paths += until(lambda before=before: sorted(set(folder.glob("*.prefix")) - before))  # type: ignore[misc]
    shelf.close()
    return paths


def test_what_is_kept_is_there_in_the_next_life_for_nobody_else_to_read(tmp_path: Path) -> None:
    (path,) = kept(tmp_path, saved := Saved(LONG, 0, b"state"))
    again = made(tmp_path)
    assert brought(again, [*LONG, 7], whole=True) == brought(again, LONG[:80]) == [saved]
    assert brought(again, LONG[:63]) == brought(again, [*LONG[:90], 1], whole=True) == []
    assert brought(again, LONG, have=150) == [], "what saves few tokens is not read"
    assert brought(again, LONG, room=100) == [], "what there is no room for neither"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.held == path.stat().st_size


def test_what_is_damaged_or_of_another_key_is_removed_and_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = kept(tmp_path, Saved(LONG, 0, b"state"), Saved([5] * 80, 0, b"state"))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    again = made(tmp_path)
    assert brought(again, LONG) == brought(again, LONG) == []
    assert not first.exists()
    assert brought(made(tmp_path, key="other"), [5] * 80) == []
    assert not second.exists()
    assert capfd.readouterr().err.count(first.name) == 1


def test_a_file_that_becomes_something_else_is_not_waited_for(tmp_path: Path) -> None:
    (path,) = kept(tmp_path, Saved(LONG, 0, b"state"))
    again = made(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert brought(again, LONG) == []


def test_what_is_no_file_of_ours_is_left_or_removed_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.prefix").touch()
    (tmp_path / "folder.prefix").mkdir()
    (tmp_path / "link.prefix").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo.prefix")
    assert brought(made(tmp_path), LONG) == []
    assert {path.name for path in tmp_path.iterdir()} == {"folder.prefix", "link.prefix", "fifo.prefix"}
    gone = made(tmp_path / "nowhere")
    gone.keep(LONG, 0, b"state")
    gone.close()
    assert gone.held == 0


def test_pieces_follow_each_other_and_the_beginning_outlives_what_goes_on_from_it(tmp_path: Path) -> None:
    one, two = Saved(LONG[:100], 0, b"a" * 1000), Saved(LONG, 100, b"b" * 1000)
    other = Saved([5] * 80, 0, b"c" * 1000)
    kept(tmp_path, one, other, two)
    again = made(tmp_path)
    assert brought(again, LONG) == [one, two]
    assert brought(again, LONG[:170])[-1] == two, "its first half is of use"
    assert brought(again, LONG, have=100) == [two]
    assert brought(again, [*LONG[:100], 9, 9], whole=True) == [one]
    small = made(tmp_path, budget=3500)
    assert brought(small, [5] * 80) == [], "it was not used for longest"
    assert brought(small, LONG) == [one, two]
    smaller = made(tmp_path, budget=2000)
    assert brought(smaller, LONG) == [one]


def test_what_goes_on_from_a_file_that_is_gone_is_not_written(tmp_path: Path) -> None:
    (first,) = kept(tmp_path, Saved(LONG[:100], 0, b"a"))
    shelf = made(tmp_path)
    assert shelf.lacks(LONG, whole=False) == 100
    assert shelf.lacks(LONG, whole=True) == 0
    assert shelf.lacks(LONG[:150], whole=False) is None
    first.unlink()  # by another worker
    shelf.keep(LONG, 100, b"b")
    shelf.close()
    assert list(tmp_path.iterdir()) == []
    assert shelf.held == 0


def test_a_budget_holds_over_lives_and_nothing_waits_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, *(Saved([i] * 80, 0, bytes(1000)) for i in range(12)), budget=6000)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 6000
    assert brought(made(tmp_path, budget=6000), [11] * 80)
    shelf = made(tmp_path)
    shelf.resize(2000)
    shelf.close()
    assert shelf.held == sum(f.stat().st_size for f in tmp_path.iterdir()) <= 2000
    monkeypatch.setattr(shelves, "PENDING", 10)
    full = made(tmp_path / "other")
    full.keep(LONG, 0, bytes(1000))
    full.close()
    assert not full._jobs


def test_what_is_used_is_noted_once_in_a_while_also_where_it_is_not_read(tmp_path: Path) -> None:
    one, two = kept(tmp_path, Saved(LONG[:100], 0, b"a"), Saved(LONG, 100, b"b"))
    old = time.time_ns() - int(3 * TOUCH * 1e9)
    for path in (one, two):
        os.utime(path, ns=(old, old))
    again = made(tmp_path)
    assert again.find(LONG, len(LONG), whole=False, room=ROOM) == [], "it is in host memory"
    until(lambda: one.stat().st_mtime_ns == two.stat().st_mtime_ns > old)
    noted = two.stat().st_mtime_ns
    again.find(LONG, len(LONG), whole=False, room=ROOM)
    again.close()
    assert two.stat().st_mtime_ns == noted


def test_what_another_worker_does_in_the_same_folder_is_no_trouble(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, Saved(LONG, 0, b"state"))
    part, old = tmp_path / "1.part", tmp_path / "2.part"
    part.write_bytes(b"x")
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * ABANDONED,) * 2)
    ours = made(tmp_path)
    assert (part.exists(), old.exists()) == (True, False)
    for path in tmp_path.glob("*.prefix"):
        path.unlink()
    assert brought(ours, LONG) == []
    assert ours.held == 0
    theirs = write(tmp_path, b"key", Saved([5] * 80, 0, b"theirs"))
    ours.keep([5] * 80, 0, b"theirs")
    write(tmp_path, b"key", Saved([6] * 80, 0, b"theirs"))
    until(lambda: ours.held == theirs.size)
    assert brought(ours, [6] * 80) == []
    ours._looked -= 2 * LOOK
    ours.keep(LONG, 0, b"ours")
    until(lambda: brought(ours, [6] * 80))
    assert capfd.readouterr().err == ""


def test_what_thousands_of_files_are_worth_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sorts all of them: asked at each file, a look would take the square of their number."""
    asked, surplus = list[int](), Index.surplus
    monkeypatch.setattr(Index, "surplus", lambda self, budget: asked.append(budget) or surplus(self, budget))
    path = write(tmp_path, b"key", Saved([*range(1000)], 0, b"state")).path
    for number in range(4096):
        os.link(path, tmp_path / f"{number:032}.prefix")
    shelf = made(tmp_path, budget=1 << 30)
    assert asked == [1 << 30]
    assert len(list(shelf._index)) == 4096, "the most, though there were more"


def test_what_nobody_wants_any_more_is_not_read(tmp_path: Path) -> None:
    kept(tmp_path, Saved(LONG, 0, b"state"))
    shelf, came = made(tmp_path), queue.SimpleQueue[list[Saved]]()
    shelf.fetch(shelf.find(LONG, 0, whole=False, room=ROOM), came.put, lambda: False)
    assert came.get(timeout=5) == []
    assert brought(shelf, LONG), "and it stays"
