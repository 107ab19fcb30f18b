"""Measures a model and its challenger in turns: loads both, with nobody leaving for them, one run of each at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from offgridd.core import events as ev
from offgridd.core.benchmark import BenchmarkSpec, Lane, Workload, figures
from offgridd.core.challenge import challenger_name, challengers
from offgridd.core.desired import ModelSpec
from offgridd.core.judging import Figures
from offgridd.core.keys import load_key
from offgridd.core.measuring import lost
from offgridd.core.observed import Observed
from offgridd.core.plan import standing_failure
from offgridd.effects.benchmarks import WARM, Benchmarks, WorkerPort
from offgridd.effects.traffic import Traffic
from offgridd.effects.updates import Now
from offgridd.engine import wire

PATIENCE: Final = 60.0  # seconds beyond the idle time for which both stay loaded while requests go first
LOADING: Final = 3600.0  # seconds for which loading both may take: each load has a deadline of its own
_GIVES_WAY: Final = ("busy", "worker_stopped")


class WorkersPort(Protocol):
    def serving(self, model: str) -> WorkerPort | None: ...


Pair = tuple[Figures, Figures]  # of what serves, of its challenger


class SupersededError(Exception):
    """Something else is wanted by now, or requests go first for a while."""


class OverError(Exception):
    """The challenger can not be measured: `reason` is a condition's."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass
class Course:
    """How far it is. `spec`: the challenger's; `same`: whether it still is what is to be measured."""

    model: str
    spec: ModelSpec
    limits: BenchmarkSpec
    same: Callable[[Observed], bool]
    pairs: list[Pair] = field(default_factory=list)
    warm: set[int] = field(default_factory=set)  # pids

    @property
    def names(self) -> tuple[str, str]:
        return self.model, challenger_name(self.model)


class Duel:
    def __init__(self, now: Now, workers: WorkersPort, benchmarks: Benchmarks, traffic: Traffic) -> None:
        self._now, self._workers, self._benchmarks, self._traffic = now, workers, benchmarks, traffic

    async def quiet(self, course: Course) -> None:
        """Until no request was answered for so long. Raises SupersededError after a while."""
        with anyio.move_on_after(course.limits.idle + PATIENCE) as waiting:
            await self._traffic.quiet(course.limits.idle)
        if waiting.cancelled_caught:
            raise SupersededError  # neither memory nor other benchmarks have to wait for it

    async def pair(self, course: Course) -> bool:
        """One more, where nothing comes between; who is first changes. Raises SupersededError, OverError."""
        ports = await self._both(course)
        order = (0, 1) if len(course.pairs) % 2 == 0 else (1, 0)
        found: dict[int, Figures] = {}
        for side in order:
            measured = await self._one(course, ports[side], challenger=side == 1)
            if measured is None:
                return False
            found[side] = measured
        course.pairs.append((found[0], found[1]))
        return True

    def leave(self, course: Course, *, both: bool = True) -> None:
        """What is loaded for it alone; not `both`: the challenger stays."""
        if both:
            self._now.emit(ev.Unloaded(challenger_name(course.model)))
        if self._now.observed().of(course.model).gently:  # else somebody else has asked for it since
            self._now.emit(ev.Unloaded(course.model))

    async def _one(self, course: Course, port: WorkerPort, *, challenger: bool) -> Figures | None:
        """The figures of one run; None where requests went first, or its worker is on its way out."""
        work = course.limits.workload
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
            raise OverError(reason, found.message)
        if isinstance(found, wire.Measured) and found.why == "out_of_cells":
            raise OverError("MeasureFailed", "the cells ran out; ask for fewer tokens, or raise kv_cells")
        return found if isinstance(found, wire.Measured) and not found.why else None

    async def _both(self, course: Course) -> tuple[WorkerPort, WorkerPort]:
        """What serves and its challenger, loaded where they are not and there is room without anybody leaving."""
        found = self._there(course)
        if found is not None:
            return found
        name, other = course.names
        self._now.emit(ev.Demanded(other, gently=True))
        if not course.spec.preload:
            self._now.emit(ev.Demanded(name, gently=True))
        await self._now.heard()
        with anyio.move_on_after(LOADING):
            while (found := self._there(course)) is None:
                self._check(course)
                await self._now.changed()
            return found
        raise OverError("LoadTimeout", f"both were not loaded within {LOADING:.0f} s")

    def _there(self, course: Course) -> tuple[WorkerPort, WorkerPort] | None:
        """Raises SupersededError."""
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

    def _check(self, course: Course) -> None:
        """Raises OverError where waiting makes no sense, SupersededError where nothing is there to hold it to."""
        observed = self._now.observed()
        self._same(course, observed)
        if lost(self._now.desired().models[course.model], observed.of(course.model), observed.engine):
            raise SupersededError
        asked_for = course.names[1:] if course.spec.preload else course.names
        if not all(observed.of(name).demanded for name in asked_for):
            raise SupersededError  # one was unloaded by hand, or had to leave: it comes no more unless it is asked for
        for name in course.names:
            if short := observed.short.get(name):
                raise OverError("CannotHold", f"there is no room for both: {short.failure.message}")
        facts = observed.of(challenger_name(course.model))
        failure = standing_failure(course.spec, facts, observed.engine)
        if failure is not None and not facts.workers:
            raise OverError(failure.reason, failure.message)

    def _same(self, course: Course, observed: Observed) -> None:
        """Raises SupersededError."""
        if not course.same(observed):
            raise SupersededError


def _figures(work: Workload, found: wire.Measured) -> Figures:
    return figures(work, [Lane(lane.prompt, lane.tokens) for lane in found.lanes])
