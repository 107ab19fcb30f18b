"""Judges a change before it serves: loads it beside what serves, measures both in turns, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from offgridd.core import events as ev
from offgridd.core.benchmark import Lane, Workload, figures
from offgridd.core.benchmarked import challenger_key
from offgridd.core.challenge import challenger_name, challengers, contested
from offgridd.core.judging import Figures, Outcome, judge_pairs
from offgridd.core.keys import load_key
from offgridd.core.measuring import Job, lost
from offgridd.core.observed import Observed, Verdict
from offgridd.core.plan import standing_failure
from offgridd.effects.benchmarks import WARM, Benchmarks, WorkerPort
from offgridd.effects.traffic import Traffic
from offgridd.effects.updates import Now
from offgridd.engine import wire

PATIENCE: Final = 60.0  # seconds beyond the idle time for which both stay loaded while requests go first
LOADING: Final = 3600.0  # seconds for which loading both may take: each load has a deadline of its own
TELL: Final = 5  # pairs between two words on how far it is
_GIVES_WAY: Final = ("busy", "worker_stopped")


class WorkersPort(Protocol):
    def serving(self, model: str) -> WorkerPort | None: ...


Pair = tuple[Figures, Figures]  # of what serves, of what is declared


class _SupersededError(Exception):
    """Something else is declared by now, or requests go first for a while."""


class _OverError(Exception):
    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.outcome = Outcome(reason, text)


@dataclass
class _Course:
    """How far one contest is."""

    job: Job
    pairs: list[Pair] = field(default_factory=list)
    warm: set[int] = field(default_factory=set)  # pids

    @property
    def names(self) -> tuple[str, str]:
        return self.job.model, challenger_name(self.job.model)


class Contest:
    """What was measured of one that had to give way is kept for when it goes on."""

    def __init__(self, now: Now, workers: WorkersPort, benchmarks: Benchmarks, traffic: Traffic) -> None:
        self._now, self._workers, self._benchmarks, self._traffic = now, workers, benchmarks, traffic
        self._pairs: dict[tuple[str, str], list[Pair]] = {}  # by model and key

    async def judge(self, job: Job) -> Outcome | None:
        """The challenger's worker is still there where nothing was found against it.

        None: something else is declared, or it is to go on in another idle time. Raises RequestRefused where another
        benchmark runs.
        """
        course = _Course(job, self._pairs.pop((job.model, job.key), []))
        outcome = None
        try:
            with self._benchmarks.alone(job.model):
                outcome = await self._outcome(course)
        except _SupersededError:
            self._pairs = {(job.model, job.key): course.pairs}
            self._rests(course)
        except _OverError as over:
            outcome = over.outcome
        finally:
            if outcome is None or outcome.reason:
                self._now.emit(ev.Unloaded(challenger_name(job.model)))
            if self._now.observed().of(job.model).gently:  # else somebody else has asked for it since
                self._now.emit(ev.Unloaded(job.model))
        return outcome

    async def _outcome(self, course: _Course) -> Outcome:
        limits = course.job.limits
        while (found := judge_pairs(course.pairs, limits)) is None:
            with anyio.move_on_after(limits.idle + PATIENCE) as waiting:
                await self._traffic.quiet(limits.idle)
            if waiting.cancelled_caught:
                raise _SupersededError  # neither memory nor other benchmarks have to wait for it
            await self._pair(course)
        return found

    async def _pair(self, course: _Course) -> None:
        """One more, where nothing comes between; who is first changes."""
        ports = await self._both(course)
        order = (0, 1) if len(course.pairs) % 2 == 0 else (1, 0)
        found: dict[int, Figures] = {}
        for side in order:
            measured = await self._one(course, ports[side], challenger=side == 1)
            if measured is None:
                return
            found[side] = measured
        course.pairs.append((found[0], found[1]))
        if len(course.pairs) % TELL == 0:
            self._say(course, "Measuring")

    def _say(self, course: _Course, reason: str) -> None:
        text = f"{len(course.pairs)} pairs of runs so far, of what serves and of what is declared"
        self._now.emit(ev.Decided(course.job.model, Verdict(course.job.key, "Unknown", reason, text, again=0.0)))

    def _rests(self, course: _Course) -> None:
        """Nothing is measured until the next idle time."""
        verdict = self._now.observed().of(course.job.model).verdict
        if verdict is not None and (verdict.key, verdict.reason) == (course.job.key, "Measuring"):
            self._say(course, "WaitsForIdle")

    async def _one(self, course: _Course, port: WorkerPort, *, challenger: bool) -> Figures | None:
        """The figures of one run; None where requests went first, or its worker is on its way out."""
        work = course.job.limits.workload
        count, depth = work.kinds[0]
        if port.pid not in course.warm:
            least = wire.Bench(0, min(WARM[0], work.prompt_tokens + depth), min(WARM[1], work.output_tokens))
            if await self._measured(least, port, challenger=challenger) is None:
                return None
            course.warm.add(port.pid)
        asked = wire.Bench(0, work.prompt_tokens, work.output_tokens, depth, count)
        found = await self._measured(asked, port, challenger=challenger)
        return _figures(work, found) if found is not None else None

    async def _measured(self, asked: wire.Bench, port: WorkerPort, *, challenger: bool) -> wire.Measured | None:
        found = await self._benchmarks.measure(port, asked)
        if isinstance(found, wire.Refused) and found.code not in _GIVES_WAY:
            if not challenger and found.code == "worker_crashed":
                return None  # it comes back, and is no fault of the change
            reason = "WorkerCrashed" if found.code == "worker_crashed" else "MeasureFailed"
            raise _OverError(reason, found.message)
        if isinstance(found, wire.Measured) and found.why == "out_of_cells":
            raise _OverError("MeasureFailed", "the cells ran out; ask for fewer tokens, or raise kv_cells")
        return found if isinstance(found, wire.Measured) and not found.why else None

    async def _both(self, course: _Course) -> tuple[WorkerPort, WorkerPort]:
        """What serves and its challenger, loaded where they are not and there is room without anybody leaving."""
        found = self._there(course)
        if found is not None:
            return found
        name, other = course.names
        self._now.emit(ev.Demanded(other, gently=True))
        if not course.job.spec.preload:
            self._now.emit(ev.Demanded(name, gently=True))
        await self._now.heard()
        with anyio.move_on_after(LOADING):
            while (found := self._there(course)) is None:
                self._check(course)
                await self._now.changed()
            return found
        raise _OverError("LoadTimeout", f"both were not loaded within {LOADING:.0f} s")

    def _there(self, course: _Course) -> tuple[WorkerPort, WorkerPort] | None:
        """Raises _SupersededError."""
        observed = self._now.observed()
        self._same(course, observed)
        ports = [self._workers.serving(name) for name in course.names]
        name, other = course.names
        wanted = {**self._now.desired().models, **challengers(self._now.desired(), observed)}
        for port, model in zip(ports, (name, other), strict=True):
            file = observed.of(model).file
            worker = next((w for w in observed.of(model).workers if port and w.pid == port.pid), None)
            if file is None or worker is None:
                return None
            if worker.load_key != load_key(wanted[model], file.key, observed.engine):
                return None  # it is replaced for another reason
        old, new = ports
        return (old, new) if old is not None and new is not None else None

    def _check(self, course: _Course) -> None:
        """Raises _OverError where waiting makes no sense, _SupersededError where nothing is there to hold it to."""
        observed = self._now.observed()
        self._same(course, observed)
        if lost(self._now.desired().models[course.job.model], observed.of(course.job.model), observed.engine):
            raise _SupersededError
        for name in course.names:
            if short := observed.short.get(name):
                raise _OverError("CannotHold", f"there is no room for both: {short.failure.message}")
        spec, facts = course.job.spec, observed.of(challenger_name(course.job.model))
        failure = standing_failure(spec, facts, observed.engine)
        if failure is not None and not facts.workers:
            raise _OverError(failure.reason, failure.message)

    def _same(self, course: _Course, observed: Observed) -> None:
        """Raises _SupersededError."""
        declared = contested(self._now.desired(), observed).get(course.job.model)
        if declared != course.job.spec or challenger_key(declared, observed) != course.job.key:
            raise _SupersededError


def _figures(work: Workload, found: wire.Measured) -> Figures:
    return figures(work, [Lane(lane.prompt, lane.tokens) for lane in found.lanes])
