"""Work that takes longer than a request: it goes on when its client has left, and can be looked at and called off."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc

from offgridd.core.errors import ActionFailed, Failure

KEPT = 100  # jobs that are over
TICK = 0.25  # seconds between two looks at one that goes on
Report = Callable[[int, int], None]


@dataclass
class Job:
    """`state`: running, done, failed or cancelled; `unit`: what is counted, bytes or models.

    `failure`: why it failed, or, while it runs, what it waits for to be over.
    """

    what: str
    unit: str = "bytes"
    id: str = field(default_factory=lambda: secrets.token_hex(4))
    state: str = "running"
    here: int = 0
    size: int = 0
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    began: float = field(default_factory=time.time)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)

    def shown(self) -> dict[str, Any]:
        error = self.failure and {"code": self.failure.reason, "message": self.failure.message}
        return {"id": self.id, "what": self.what, "state": self.state, "unit": self.unit, self.unit: self.here,
                "size": self.size, "began": round(self.began, 3), "result": self.result, "error": error}  # fmt: skip

    def report(self, here: int, size: int) -> None:
        """In any thread."""
        if size:
            self.here, self.size = here, size


class Jobs:
    """They run in `group`."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group
        self._jobs: dict[str, Job] = {}

    def begin(self, what: str, work: Callable[[Report], Awaitable[dict[str, Any]]], unit: str = "bytes") -> Job:
        """`work` gives the result, or raises ActionFailed; it reports how many of how many `unit` there are."""
        job = Job(what, unit)
        over = [one.id for one in self._jobs.values() if one.over.is_set()]
        for old in over[: max(0, len(over) + 1 - KEPT)]:
            del self._jobs[old]
        self._jobs[job.id] = job
        self._group.start_soon(self._run, job, work)
        return job

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def find(self, job: str) -> Job | None:
        return self._jobs.get(job)

    async def idle(self) -> None:
        """Until none runs."""
        while running := [job for job in self._jobs.values() if not job.over.is_set()]:
            await running[0].over.wait()

    async def _run(self, job: Job, work: Callable[[Report], Awaitable[dict[str, Any]]]) -> None:
        with job.scope:
            try:
                job.result = await work(job.report)
                job.state, job.failure = "done", None
            except ActionFailed as failed:
                job.failure, job.state = failed.failure, "failed"
        if job.state == "running":
            job.state, job.failure = "cancelled", None
        job.over.set()


async def watch(job: Job, quiet: float, ends: Callable[[], bool]) -> AsyncGenerator[dict[str, Any] | None, None]:
    """What there is to see of it, now and whenever that changes, until it is over, or the daemon `ends`.

    None after `quiet` seconds of nothing.
    """
    last: dict[str, Any] | None = None
    since = anyio.current_time()
    while True:
        over, now = job.over.is_set(), job.shown()
        if now != last:
            yield now
            since = anyio.current_time()
        elif anyio.current_time() - since >= quiet:
            yield None
            since = anyio.current_time()
        if over or ends():
            return
        last = now
        with anyio.move_on_after(TICK):
            await job.over.wait()
