"""Tells a worker that hangs from one that is slow: it has open requests, says nothing and does nothing.

A worker reports once a second while it works, but a decode of a long prompt on a slow machine can take minutes without
a word; it uses the processor then. Time is counted in looks, not read off a clock: after the whole machine, or we, were
stopped for a while, nobody has missed a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import anyio

LOOK = 5.0  # seconds between two looks
STILL, SILENT = 12, 240  # looks: without a frame or any work, and without a frame though it works


class Watched(Protocol):
    """`heard`: frames so far; `open`: requests that wait for it."""

    @property
    def id(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def heard(self) -> int: ...
    @property
    def open(self) -> int: ...
    def condemn(self, text: str) -> None: ...


@dataclass(slots=True)
class _Seen:
    heard: int = -1
    work: int = -1
    still: int = 0
    silent: int = 0


@dataclass
class Pulse:
    """`workers` gives those that serve now; `beside` is called at each look."""

    workers: Callable[[], Iterable[Watched]]
    beside: Callable[[], None] = lambda: None
    _seen: dict[int, _Seen] = field(default_factory=dict)

    async def run(self) -> None:
        """For ever."""
        while True:
            await anyio.sleep(LOOK)
            self.beside()
            self.look()

    def look(self) -> None:
        now = {worker.id: worker for worker in self.workers() if worker.open}
        self._seen = {number: self._seen.get(number, _Seen()) for number in now}
        for number, seen in self._seen.items():
            self._judge(now[number], seen)

    def _judge(self, worker: Watched, seen: _Seen) -> None:
        work = worked(worker.pid)
        if worker.heard != seen.heard:
            seen.still = seen.silent = 0
        else:
            seen.still = 0 if work != seen.work else seen.still + 1
            seen.silent += 1
        seen.heard, seen.work = worker.heard, work
        if seen.still >= STILL:
            worker.condemn(f"it did nothing for {STILL * LOOK:.0f} s while requests waited")
        elif seen.silent >= SILENT:
            worker.condemn(f"no step of it ended within {SILENT * LOOK:.0f} s")


def worked(pid: int) -> int:
    """Clock ticks of processor time that a process has used so far; 0 when it is gone. See proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
