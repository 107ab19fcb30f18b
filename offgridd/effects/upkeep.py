"""Measures what is due while nobody asks for anything, one thing at a time, and sees to what comes of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.adapters import with_adapters_of
from offgridd.core.challenge import challenger_name
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.core.hub import Pin
from offgridd.core.judging import Outcome
from offgridd.core.measuring import Due, Job, due
from offgridd.core.observed import Verdict
from offgridd.core.tuned import as_declared
from offgridd.effects.alone import Alone
from offgridd.effects.benchmarks import Benchmarks, WorkerPort
from offgridd.effects.contest import Contest
from offgridd.effects.duel import Duel
from offgridd.effects.traffic import Traffic
from offgridd.effects.tuner import Tuner
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")
_ORDER: Final = {"take": 0, "contest": 0, "measure": 1, "tune": 2}
PAUSE: Final = 1.0  # seconds between two looks at what is due
ROOM_AGAIN, TELL_AGAIN, DISTURBED_AGAIN, MOST_AGAIN = 300.0, 3600.0, 600.0, 6 * 3600.0  # seconds
_MAY_PASS: Final = ("OutOfMemory", "SpawnFailed", "LoadTimeout", "MlockFailed")  # reasons why a worker is not there
_PASSES: Final = ("busy", "benchmark_running", "model_changed", "model_not_ready", "worker_stopped", "not_kept")


class WorkersPort(Protocol):
    def serving(self, model: str) -> WorkerPort | None: ...
    def rename(self, model: str, other: str) -> None: ...


class VerdictsPort(Protocol):
    def all(self) -> dict[str, Verdict]: ...
    def keep(self, model: str, value: Verdict) -> bool: ...
    def drop(self, model: str) -> None: ...


class PinsPort(Protocol):
    def keep(self, model: str, value: Pin) -> bool: ...
    def drop(self, model: str) -> None: ...


Took = Callable[[str, ModelSpec, Callable[[], None]], Awaitable[bool]]


class Upkeep:
    """`verdicts` and `pins` outlive the daemon; `took` keeps that a change serves.

    `recall` tells of a model's results in earlier lives: one that was measured then is not measured again.
    """

    def __init__(
        self, now: Now, workers: WorkersPort, benchmarks: Benchmarks, traffic: Traffic,
        verdicts: VerdictsPort, pins: PinsPort, took: Took, recall: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._now, self._workers, self._traffic = now, workers, traffic
        self._verdicts, self._pins, self._took, self._recall = verdicts, pins, took, recall
        duel = Duel(now, workers, benchmarks, traffic)
        self._contest, self._alone = Contest(now, duel, benchmarks), Alone(now, workers, benchmarks)
        self._tuner = Tuner(now, duel, benchmarks)
        self._since: dict[tuple[str, str], float] = {}  # when a job was seen first, by model and key, monotonic
        self._kept: set[str] = set()  # models with a verdict in the state

    async def run(self) -> None:
        """For ever."""
        verdicts = await anyio.to_thread.run_sync(self._verdicts.all)
        while not self._now.desired().generation:
            await self._now.changed()
        for name, verdict in verdicts.items():
            self._kept.add(name)
            self._now.emit(ev.Decided(name, verdict))
        await self._now.heard()
        while True:
            await self._forget()
            found = self._due()
            ready = [job for job in found.jobs if job.kind == "take" or self._traffic.idle >= job.limits.idle]
            if ready:
                await self._do(min(ready, key=self._turn))
                await self._now.heard()
            else:
                await self._wait(found)
            await anyio.sleep(PAUSE)

    def _due(self) -> Due:
        now = time.monotonic()
        observed = self._now.observed()
        found = due(self._now.desired(), observed, now, time.time())
        later = [known for known in self._since if (it := observed.of(known[0]).verdict) and it.key == known[1]]
        keys = [*later, *((job.model, job.key) for job in found.jobs)]
        self._since = {known: self._since.get(known, now) for known in keys}
        return found

    def _turn(self, job: Job) -> tuple[int, float]:
        """Contests first, tuning last; of those alike who waits longest."""
        return _ORDER[job.kind], self._since[job.model, job.key]

    def _until(self, job: Job) -> float:
        return self._since[job.model, job.key] + job.limits.max_wait

    async def _wait(self, found: Due) -> None:
        """Until something changed, an idle time may have come, or one did not come for too long, which is said."""
        now = time.monotonic()
        waiting = [job for job in found.jobs if job.kind != "tune" and not self._is_told(job)]
        for job in (late := [job for job in waiting if self._until(job) <= now]):
            await self._no_time(job)
        if late:
            return
        times = [found.later, *(self._until(job) for job in waiting)]
        left = min((at - now for at in times if at is not None), default=math.inf)
        async with anyio.create_task_group() as group:

            async def first(what: Callable[[], Awaitable[None]]) -> None:
                await what()
                group.cancel_scope.cancel()

            group.start_soon(first, self._now.changed)
            if found.jobs:
                least = min(job.limits.idle for job in found.jobs)
                group.start_soon(first, lambda: self._traffic.quiet(least))
            group.start_soon(first, lambda: anyio.sleep(max(0.0, left)))

    def _is_told(self, job: Job) -> bool:
        verdict = self._now.observed().of(job.model).verdict
        return verdict is not None and (verdict.key, verdict.reason) == (job.key, "NoIdleTime")

    async def _no_time(self, job: Job) -> None:
        text = f"the machine was not idle for {job.limits.idle:.0f} s within {job.limits.max_wait:.0f} s"
        if job.kind == "contest" and job.limits.on_timeout == "swap":
            await self._take(job, f"{text}; on_timeout says swap")
        else:
            self._say(job, "Unknown", "NoIdleTime", text, again=0.0)

    async def _do(self, job: Job) -> None:
        try:
            match job.kind:
                case "take":
                    await self._take(job, "what served before it can not serve")
                case "contest":
                    outcome = await self._contest.judge(job)
                    if outcome is not None:
                        await self._judged(job, outcome)
                case "measure":
                    await self._measure(job)
                case "tune":
                    await self._tuner.step(job)
        except RequestRefused as refused:
            await self._failed(job, refused)

    async def _judged(self, job: Job, outcome: Outcome) -> None:
        match outcome.reason:
            case "":
                await self._take(job, outcome.text)
            case "CannotHold":
                self._say(job, "False", "CannotHold", outcome.text, again=time.monotonic() + ROOM_AGAIN)
            case "NoVerdict" if job.limits.on_timeout == "swap" and time.monotonic() >= self._until(job):
                await self._take(job, f"{outcome.text}; on_timeout says swap")
            case "NoVerdict":
                text = f"{outcome.text}: it can not be told from noise, and is measured again later"
                self._say(job, "Unknown", "NoVerdict", text, again=time.monotonic() + TELL_AGAIN)
            case reason if reason in _MAY_PASS:
                self._say(job, "Unknown", reason, outcome.text, again=time.monotonic() + ROOM_AGAIN)
            case _:
                self._say(job, "False", outcome.reason, outcome.text, again=None)
                verdict = Verdict(job.key, "False", outcome.reason, outcome.text)
                self._kept.add(job.model)
                await anyio.to_thread.run_sync(self._verdicts.keep, job.model, verdict)

    async def _take(self, job: Job, why: str) -> None:
        """What is declared serves from now on."""
        observed, behind = self._now.observed(), challenger_name(job.model)
        names = with_adapters_of({behind: replace(job.spec, name=behind)})
        pins = {name: pin for name in names if (pin := observed.of(name).pin) is not None}

        def tell() -> None:
            self._workers.rename(challenger_name(job.model), job.model)
            self._now.emit(ev.Taken(job.model, job.spec))

        if job.model not in self._now.desired().challengers:  # a newer file, and no edit
            tell()
        elif not await self._took(job.model, as_declared(job.spec), tell):
            return
        log.info("model %s: what is declared is taken: %s", job.model, why)
        for name, pin in pins.items():
            await anyio.to_thread.run_sync(self._pins.keep, job.model + name.removeprefix(behind), pin)
            await anyio.to_thread.run_sync(self._pins.drop, name)

    async def _measure(self, job: Job) -> None:
        """Raises RequestRefused."""
        await self._recall(job.model)
        await self._now.heard()
        if job not in self._due().jobs:
            return
        record = await self._alone.measure(job)
        if any(kind["disturbed"] for kind in record["results"]):
            before = self._now.observed().of(job.model).verdict
            count = before.count + 1 if before and (before.key, before.reason) == (job.key, "Disturbed") else 1
            again = time.monotonic() + min(MOST_AGAIN, DISTURBED_AGAIN * 2 ** (count - 1))
            text = "others used the processors during each run; it is measured again later"
            self._now.emit(ev.Decided(job.model, Verdict(job.key, "Unknown", "Disturbed", text, count, again)))
        else:
            self._now.emit(ev.Decided(job.model, None))

    async def _failed(self, job: Job, refused: RequestRefused) -> None:
        if refused.code == "no_room":
            self._say(job, "Unknown", "NoRoom", str(refused), again=time.monotonic() + ROOM_AGAIN)
        elif refused.code in _PASSES or job.kind == "tune":
            await anyio.sleep(PAUSE)
        else:
            before = self._now.observed().of(job.model).verdict
            again = before is None or (before.key, before.reason) != (job.key, "MeasureFailed")
            crashed = refused.code == "worker_crashed" and again  # it may have been the machine
            self._say(job, "False", "MeasureFailed", str(refused), again=time.monotonic() + 60 if crashed else None)

    def _say(self, job: Job, status: str, reason: str, text: str, *, again: float | None = None) -> None:
        verdict = Verdict(job.key, "False" if status == "False" else "Unknown", reason, text, again=again)
        self._now.emit(ev.Decided(job.model, verdict))

    async def _forget(self) -> None:
        """What was decided and is open again, or of a model that is declared no more."""
        observed, models = self._now.observed(), self._now.desired().models
        gone = [name for name in self._kept if name not in models or observed.of(name).verdict is None]
        for name in gone if self._now.desired().generation else ():
            self._kept.discard(name)
            await anyio.to_thread.run_sync(self._verdicts.drop, name)
