"""Searches the fastest load fields of a model: one candidate a turn, beside what serves, while nobody asks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import anyio

from offgridd.core import events as ev
from offgridd.core.challenge import challenger_name, contested, tried_as
from offgridd.core.measuring import Job
from offgridd.core.observed import Observed
from offgridd.core.tuned import Trial, Tried, Tuning
from offgridd.core.tuning import (
    Candidate,
    Judgement,
    advanced,
    begun,
    candidate,
    ended,
    judge,
    key_of,
    ratios_of_best,
)
from offgridd.effects.benchmarks import Benchmarks
from offgridd.effects.duel import Course, Duel, OverError, Pair, SupersededError
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")
ROOM_AGAIN: Final = 300.0  # seconds
GOING: Final = 60.0  # seconds for a worker that has nothing to do to end


class _CutError(Exception):
    """The search had the time that it may have."""


@dataclass
class _Clock:
    """Seconds of measuring: how many one candidate may still take, and took."""

    most: float
    spent: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises _CutError where the time is over within the block."""
        began = time.monotonic()
        try:
            with anyio.move_on_after(self.most - self.spent) as scope:
                yield
        finally:
            self.spent += time.monotonic() - began
        if scope.cancelled_caught:
            raise _CutError


class Tuner:
    """What was measured of a candidate that had to give way is kept for when it goes on."""

    def __init__(self, now: Now, duel: Duel, benchmarks: Benchmarks) -> None:
        self._now, self._duel, self._benchmarks = now, duel, benchmarks
        self._unfinished: tuple[str, Candidate, list[Pair], float] | None = None  # key, what, pairs, seconds

    async def step(self, job: Job) -> None:
        """The next candidate of a search, or its end. Raises RequestRefused where another benchmark runs."""
        observed = self._now.observed()
        tuning = begun(job.spec, job.key, observed.host.kind, observed.tunings.get(job.model))
        found = candidate(job.spec, observed.host.cores, tuning)
        if found is None:
            self._tell(job, ended(tuning))
            return
        with anyio.CancelScope() as scope, self._benchmarks.alone(job.model, scope.cancel):
            try:
                await self._try(job, tuning, found)
            finally:
                self._now.emit(ev.TrialChosen(None))

    async def _try(self, job: Job, tuning: Tuning, found: Candidate) -> None:
        trial = Trial(job.model, found.settings)
        await self._gone(job.model)
        self._tell(job, tuning)
        self._now.emit(ev.TrialChosen(trial))
        await self._now.heard()
        spec = tried_as(self._now.desired(), trial)
        if spec is None:
            return
        pairs, spent = self._begun(job, found)
        course = Course(job.model, spec, job.limits, lambda observed: self._is_same(job, trial, observed), pairs)
        clock = _Clock(job.limits.tune_time - tuning.seconds, spent)
        try:
            judged = await self._judged(course, tuning, clock)
            self._tell(job, advanced(tuning, _tried(found, course, clock, judged)))
        except (SupersededError, anyio.get_cancelled_exc_class()) as error:
            self._unfinished = job.key, found, course.pairs, clock.spent
            if not isinstance(error, SupersededError):
                raise
        except _CutError:
            self._tell(job, ended(tuning, f"tune_time was over after {tuning.seconds + clock.spent:.0f} s"))
        except OverError as over:
            self._failed(job, tuning, _tried(found, course, clock, over), over)
        finally:
            self._duel.leave(course)

    def _begun(self, job: Job, found: Candidate) -> tuple[list[Pair], float]:
        """What is known of the candidate already: pairs, and the seconds that they took."""
        known, self._unfinished = self._unfinished, None
        return known[2:] if known is not None and known[:2] == (job.key, found) else ([], 0.0)

    async def _judged(self, course: Course, tuning: Tuning, clock: _Clock) -> Judgement:
        best = ratios_of_best(tuning)
        while (found := judge(course.pairs, best)) is None:
            await self._duel.quiet(course)
            with clock.running():
                await self._duel.pair(course)
        return found

    def _failed(self, job: Job, tuning: Tuning, tried: Tried, over: OverError) -> None:
        """No room may be there later; all else is the candidate's own fault."""
        if over.reason != "CannotHold":
            self._tell(job, advanced(tuning, tried))
            return
        self._tell(job, replace(tuning, why=str(over), again=time.monotonic() + ROOM_AGAIN))

    def _tell(self, job: Job, tuning: Tuning) -> None:
        self._now.emit(ev.Tuned(job.model, tuning))
        if tuning.done:
            log.info("model %s: tuning is done: %s", job.model, tuning.why)

    async def _gone(self, model: str) -> None:
        """Until no worker of another candidate is there, which would take the room of this one."""
        other = challenger_name(model)
        with anyio.move_on_after(GOING):
            while self._now.observed().of(other).workers:
                await self._now.changed()

    def _is_same(self, job: Job, trial: Trial, observed: Observed) -> bool:
        """Nothing was edited, nothing is to be judged first, and nobody wants it all again."""
        desired, known = self._now.desired(), observed.tunings.get(job.model)
        if observed.trial != trial or known is None or known.key != job.key:
            return False
        same = desired.models.get(job.model) == job.spec and job.model not in contested(desired, observed)
        return same and key_of(job.spec, observed.of(job.model), observed) == job.key


def _tried(found: Candidate, course: Course, clock: _Clock, judged: Judgement | OverError) -> Tried:
    made = Tried(found.field, found.value, found.settings, "failed", "", len(course.pairs), (), clock.spent)
    if isinstance(judged, OverError):
        return replace(made, why=f"{judged.reason}: {judged}")
    return replace(made, result=judged.result, ratios=judged.ratios)
