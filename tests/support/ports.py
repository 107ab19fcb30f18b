"""Files and workers of a script for the loop: they behave as the real ones do, in the event loop's (fake) time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import anyio

from offgridd.core import events as ev
from offgridd.core.actions import LimitCache, StartWorker, StopWorker, Verify
from offgridd.core.desired import FileSource
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.observed import Effective, Identity, ModelHeader, VerifiedFile

HEADER = ModelHeader("llama", "tiny", 0, 4096, 1, 32, 2, 288, 12, 1000, True)
BAD = Failure("Verified", "Bad", "cannot")


def now() -> float:
    return asyncio.get_running_loop().time()


class Files:
    """`disk` maps paths to what lies there; a path that is not in it can not be verified."""

    def __init__(self) -> None:
        self.disk = {"/m/a.gguf": 1, "/m/b.gguf": 2}
        self.verified: list[tuple[float, str]] = []
        self.takes = self.look_takes = 0.0  # seconds
        self.failure = BAD

    async def verify(self, action: Verify) -> VerifiedFile:
        assert isinstance(action.source, FileSource)
        path = action.source.path
        self.verified.append((now(), path))
        await anyio.sleep(self.takes)
        if path not in self.disk:
            raise ActionFailed(self.failure)
        return VerifiedFile(path, self.identity(path), f"{self.disk[path]:064}", HEADER, action.key)

    async def look(self, paths: Mapping[str, Sequence[str]]) -> dict[str, tuple[Identity, ...] | None]:
        found = {name: (self.identity(path),) if path in self.disk else None for name, (path,) in paths.items()}
        await anyio.sleep(self.look_takes)
        return found

    def identity(self, path: str) -> Identity:
        return Identity(1, self.disk[path], 1, 1)


class Workers:
    """Loads in `takes` seconds; says what the real one says, and in which order."""

    def __init__(self, emit: Callable[[ev.Event], None]) -> None:
        self.emit, self.takes = emit, 1.0
        self.started: list[tuple[float, str, int | None]] = []
        self.ended: list[int] = []
        self.drains: list[float] = []
        self.limits: list[tuple[int, int]] = []

    async def start(self, action: StartWorker) -> None:
        self.started.append((now(), action.model, action.load.context))
        worker, ready = len(self.started), False
        self.emit(ev.WorkerStarted(action.model, worker, 1000 + worker, action.key, action.cache_ram))
        try:
            await anyio.sleep(self.takes)
            self.emit(ev.WorkerReady(action.model, worker, Effective(4096, 1, 4096, 1, None)))
            ready = True
        finally:
            if not ready:
                self.ended.append(worker)
                self.emit(ev.WorkerExited(action.model, worker, None))

    def limit_cache(self, action: LimitCache) -> None:
        self.limits.append((action.worker, action.bytes))

    def stop(self, action: StopWorker) -> None:
        self.ended.append(action.worker)
        self.drains.append(action.drain)
        self.emit(ev.WorkerExited(action.model, action.worker, None))
