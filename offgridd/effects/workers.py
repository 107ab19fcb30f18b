"""The set of worker processes: what StartWorker and StopWorker do, and where a request goes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Container, Sequence

import anyio
import anyio.abc

from offgridd.core import events as ev
from offgridd.core.actions import LimitCache, StartWorker, StopWorker
from offgridd.core.adapters import beside
from offgridd.core.errors import ActionFailed, Failure
from offgridd.effects.cgroup import OomKills
from offgridd.effects.shelves import Shelves
from offgridd.effects.worker import WorkerProcess
from offgridd.engine import wire
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")
Emit = Callable[[ev.Event], None]
Report = Callable[[str, int, wire.Stats | None], None]


class Workers:
    """Processes live in `group`; `emit` hands events to the loop; `program` is what a worker runs.

    `report` takes what a model's worker says of itself; None when that one is gone.
    """

    def __init__(
        self,
        group: anyio.abc.TaskGroup,
        emit: Emit,
        program: Sequence[str],
        report: Report = lambda _model, _worker, _stats: None,
        shelves: Shelves | None = None,
    ) -> None:
        self._group, self._emit, self._program, self._report = group, emit, program, report
        self._shelves = shelves
        self._all: dict[int, WorkerProcess] = {}
        self._files: dict[int, frozenset[str]] = {}  # the sha256s that each has open
        self._charged: dict[int, tuple[str, int]] = {}  # load key, and bytes of its own that are reckoned with
        self._newest: dict[str, WorkerProcess] = {}  # by model, also when it has ended: for what it printed
        self._draining = False
        self.ooms = OomKills()
        self._ids, self._requests = itertools.count(1), itertools.count(1)

    async def start(self, action: StartWorker) -> None:
        """Until it is ready or failed; every outcome is an event. Cancelled: the process is gone when it returns."""
        if self._draining:
            return
        try:
            worker = await WorkerProcess.spawn(next(self._ids), action.model, self._program, self._took, self._oom)
        except ActionFailed as failed:
            self._emit(ev.StartFailed(action.model, action.key, failed.failure))
            return
        failpoint("worker.after-spawn")
        self._all[worker.id] = self._newest[action.model] = worker
        self._files[worker.id] = frozenset(action.file.sha256s)
        self._charged[worker.id] = action.key, action.charge.own
        self._emit(ev.WorkerStarted(
            action.model, worker.id, worker.pid, action.key, action.cache_ram, action.charge, action.cache_disk
        ))  # fmt: skip
        self._group.start_soon(worker.drain_stderr)
        failure = None
        try:
            shelf = await self._shelves.take(worker.id, action.shelf) if self._shelves and action.shelf else ""
            effective = await worker.load_model(action, shelf)
            failpoint("worker.after-load")
            self._emit(ev.WorkerReady(action.model, worker.id, effective))
            self._group.start_soon(self._supervise, worker)
        except ActionFailed as failed:
            failure = failed.failure
            if failure.reason == "FileChanged":  # not the worker's fault: verify again
                for model in (action.model, *beside(action.model, action.load)):
                    self._emit(ev.FileSeen(model, None))
                failure = None
        finally:
            if not worker.ready:
                with anyio.CancelScope(shield=True):
                    await self._remove(worker)
                self._exited(worker, None if worker.stopping else failure)

    def stop(self, action: StopWorker) -> None:
        """Takes effect at once: new requests go elsewhere; the process ends within the drain time."""
        worker = self._all.get(action.worker)
        if worker is not None and not worker.stopping:
            worker.stopping = True
            self._group.start_soon(worker.stop, action.drain)

    def limit_cache(self, action: LimitCache) -> None:
        worker = self._all.get(action.worker)
        if worker is not None:
            worker.limit_cache(action.bytes, action.disk)

    def serving(self, model: str) -> WorkerProcess | None:
        """Where new requests of `model` go: the newest that is ready and not stopping."""
        return next((w for w in reversed(self._all.values()) if w.model == model and w.ready and not w.stopping), None)

    def rename(self, model: str, other: str) -> None:
        """The workers of a model are those of another one from now on."""
        for worker in [w for w in self._all.values() if w.model == model]:
            worker.model = other
            self._newest[other] = worker
        self._newest.pop(model, None)

    def forget(self, models: Container[str]) -> None:
        """Drops what the workers of other models have printed."""
        for name in [name for name in self._newest if name not in models]:
            del self._newest[name]

    def printed(self, model: str) -> str:
        """The end of what the model's newest worker wrote to stderr; empty when there was none."""
        newest = self._newest.get(model)
        return newest.printed() if newest else ""

    def using(self) -> set[str]:
        """The sha256s of the files that live workers have open."""
        return {sha256 for files in self._files.values() for sha256 in files}

    def all_serving(self) -> list[WorkerProcess]:
        """Those that may have requests, also while they stop."""
        return [w for w in self._all.values() if w.ready]

    def next_request(self) -> int:
        return next(self._requests)

    async def drain(self, seconds: float) -> None:
        """Ends them all, each within `seconds`; none is left when it returns, and none is started any more."""
        self._draining = True
        async with anyio.create_task_group() as group:
            for worker in list(self._all.values()):
                group.start_soon(worker.stop, seconds)
                group.start_soon(worker.ended.wait)

    def _oom(self) -> bool:
        return self.ooms.another()

    def _took(self, model: str, worker: int, stats: wire.Stats) -> None:
        self._report(model, worker, stats)
        key, charged = self._charged[worker]
        if stats.now.own_peak_bytes > charged:
            self._charged[worker] = key, stats.now.own_peak_bytes
            self._emit(ev.Measured(model, key, stats.now.own_peak_bytes))

    async def _supervise(self, worker: WorkerProcess) -> None:
        await worker.until_lost()
        failure = None if worker.stopping else await worker.death()
        await self._remove(worker)
        self._exited(worker, failure)

    def _exited(self, worker: WorkerProcess, failure: Failure | None) -> None:
        if failure is not None:
            kept = "/" in worker.model  # what is declared has a condition, which is logged
            log.log(logging.WARNING if kept else logging.DEBUG, "model %s: %s", worker.model, failure.message)
        self._emit(ev.WorkerExited(worker.model, worker.id, failure))

    async def _remove(self, worker: WorkerProcess) -> None:
        await worker.close()
        self._all.pop(worker.id, None)
        self._files.pop(worker.id, None)
        self._charged.pop(worker.id, None)
        if self._shelves is not None:
            self._shelves.leave(worker.id)
        self._report(worker.model, worker.id, None)
