"""Judges a change before it serves: measures it beside what serves, and says what came of it."""

from __future__ import annotations

from typing import Final

from offgridd.core import events as ev
from offgridd.core.benchmarked import challenger_key
from offgridd.core.challenge import contested
from offgridd.core.judging import Outcome, judge_pairs
from offgridd.core.measuring import Job
from offgridd.core.observed import Observed, Verdict
from offgridd.effects.benchmarks import Benchmarks
from offgridd.effects.duel import Course, Duel, OverError, Pair, SupersededError
from offgridd.effects.updates import Now

TELL: Final = 5  # pairs between two words on how far it is


class Contest:
    """What was measured of one that had to give way is kept for when it goes on."""

    def __init__(self, now: Now, duel: Duel, benchmarks: Benchmarks) -> None:
        self._now, self._duel, self._benchmarks = now, duel, benchmarks
        self._pairs: dict[tuple[str, str], list[Pair]] = {}  # by model and key

    async def judge(self, job: Job) -> Outcome | None:
        """The challenger's worker is still there where nothing was found against it.

        None: something else is declared, or it is to go on in another idle time. Raises RequestRefused where another
        benchmark runs.
        """
        pairs = self._pairs.pop((job.model, job.key), [])
        course = Course(job.model, job.spec, job.limits, lambda observed: self._is_same(job, observed), pairs)
        outcome = None
        try:
            with self._benchmarks.alone(job.model):
                outcome = await self._outcome(job, course)
        except SupersededError:
            self._pairs = {(job.model, job.key): course.pairs}
            self._rests(job, course)
        except OverError as over:
            outcome = Outcome(over.reason, str(over))
        finally:
            self._duel.leave(course, both=outcome is None or bool(outcome.reason))
        return outcome

    async def _outcome(self, job: Job, course: Course) -> Outcome:
        while (found := judge_pairs(course.pairs, job.limits)) is None:
            await self._duel.quiet(course)
            if await self._duel.pair(course) and len(course.pairs) % TELL == 0:
                self._say(job, course, "Measuring")
        return found

    def _say(self, job: Job, course: Course, reason: str) -> None:
        text = f"{len(course.pairs)} pairs of runs so far, of what serves and of what is declared"
        self._now.emit(ev.Decided(job.model, Verdict(job.key, "Unknown", reason, text, again=0.0)))

    def _rests(self, job: Job, course: Course) -> None:
        """Nothing is measured until the next idle time."""
        verdict = self._now.observed().of(job.model).verdict
        if verdict is not None and (verdict.key, verdict.reason) == (job.key, "Measuring"):
            self._say(job, course, "WaitsForIdle")

    def _is_same(self, job: Job, observed: Observed) -> bool:
        declared = contested(self._now.desired(), observed).get(job.model)
        return declared is not None and declared == job.spec and challenger_key(declared, observed) == job.key
