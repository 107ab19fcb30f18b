"""Measures one model by itself: loads it where that costs nobody anything, and lets it go again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

from offgridd.core import events as ev
from offgridd.core.benchmarked import key_of
from offgridd.core.errors import RequestRefused
from offgridd.core.fit import estimate
from offgridd.core.measuring import Job
from offgridd.core.plan import current_file, standing_failure
from offgridd.effects.benchmarks import PATIENCE, Benchmarks, Subject, WorkerPort
from offgridd.effects.updates import Now


class WorkersPort(Protocol):
    def serving(self, model: str) -> WorkerPort | None: ...


class Alone:
    def __init__(self, now: Now, workers: WorkersPort, benchmarks: Benchmarks) -> None:
        self._now, self._workers, self._benchmarks = now, workers, benchmarks

    async def measure(self, job: Job) -> dict[str, Any]:
        """The record, which is kept. Raises RequestRefused."""
        try:
            subject = await self._subject(job)
            return await self._benchmarks.run(subject, job.limits.workload, lambda _: None)
        finally:
            if self._now.observed().of(job.model).gently:  # else somebody else has asked for it since
                self._now.emit(ev.Unloaded(job.model))

    async def _subject(self, job: Job) -> Subject:
        """Loads the model where it is not, if there is room. Raises RequestRefused."""
        await self._loaded(job)
        observed = self._now.observed()
        facts, spec = observed.of(job.model), self._now.desired().models.get(job.model)
        file, serving = current_file(spec, facts) if spec else None, facts.serving()
        if spec is None or file is None or serving is None or serving.effective is None:
            raise RequestRefused(503, "model_not_ready", f"cannot measure {job.model}: it has just gone")
        described = {"sha256": file.sha256, "size": file.size}

        async def worker() -> WorkerPort:
            now, there = self._now.observed(), self._workers.serving(job.model)
            wanted = self._now.desired().models.get(job.model)
            if there is None or wanted is None or key_of(wanted, now.of(job.model), now) != job.key:
                raise RequestRefused(409, "model_changed", f"cannot go on measuring {job.model}: it changes")
            return there

        needs = estimate(file.header, spec.load, observed.host.features, spec.cache_ram)
        return Subject(job.model, serving.load_key, described, asdict(serving.effective), observed.engine, job.limits,
                       worker, job.limits.idle, job.limits.idle + PATIENCE, needs)  # fmt: skip

    async def _loaded(self, job: Job) -> None:
        if self._workers.serving(job.model) is not None:
            return
        if job.spec.preload:
            raise RequestRefused(503, "model_not_ready", f"cannot measure {job.model}: it does not serve now")
        self._now.emit(ev.Demanded(job.model, gently=True))
        await self._now.heard()
        while self._workers.serving(job.model) is None:
            observed, spec = self._now.observed(), self._now.desired().models.get(job.model)
            facts, short = observed.of(job.model), observed.short.get(job.model)
            failure = standing_failure(spec, facts, observed.engine) if spec else None
            if spec is None or failure or short or not facts.demanded:  # the last: by hand, or it had to leave
                why = failure or (short.failure if short else None)
                text = f"cannot measure {job.model}: {why.message if why else 'it was removed, or unloaded'}"
                raise RequestRefused(503, "no_room" if short else "model_not_ready", text)
            await self._now.changed()
        await self._now.heard()
