"""What is to be measured: models whose key has no result, changes that have to prove themselves, what may be faster.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.benchmarked import challenger_key, key_of, not_for_text, result_of
from offgridd.core.challenge import challenger_name, contested
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.observed import ModelFacts, Observed
from offgridd.core.plan import current_file, standing_failure, standing_retry
from offgridd.core.tuning import key_of as tuning_key

TRIES: Final = 4  # that failed, after which a file counts as gone: what was refused must not serve for a hiccup


@dataclass(frozen=True, slots=True)
class Job:
    """`spec`: what is measured; of a contest what is declared and does not serve yet; of tuning what serves.

    `take`: it is to serve without being judged, since what it would be held against can not serve, or one of the two is
    no model for text.
    """

    kind: Literal["measure", "contest", "take", "tune"]
    model: str
    key: str
    spec: ModelSpec

    @property
    def limits(self) -> BenchmarkSpec:
        assert self.spec.benchmark is not None
        return self.spec.benchmark


@dataclass(frozen=True, slots=True)
class Due:
    """`later`: when something may be due (monotonic), None = not before something changes."""

    jobs: tuple[Job, ...]
    later: float | None


def due(desired: Desired, observed: Observed, now: float, wall: float) -> Due:
    """Contests first. `now`: monotonic; `wall`: seconds since the epoch."""
    jobs, later = list[Job](), list[float]()
    measured = _measurements(desired, observed, now, wall)
    for found in (*_contests(desired, observed, now), *measured, *_searches(desired, observed, now)):
        if isinstance(found, Job):
            jobs.append(found)
        else:
            later.append(found)
    return Due(tuple(jobs), min(later, default=None))


def _contests(desired: Desired, observed: Observed, now: float) -> Iterator[Job | float]:
    for name, declared in contested(desired, observed).items():
        serves, facts = desired.models[name], observed.of(name)
        key = challenger_key(declared, observed)
        if key is None:
            continue  # its file is not here yet
        other = observed.of(challenger_name(name))
        if lost(serves, facts, observed.engine) or not_for_text(declared, other) or not_for_text(serves, facts):
            yield Job("take", name, key, declared)
        elif (at := _again(facts, key)) is None or at <= now:
            yield Job("contest", name, key, declared)
        elif at != float("inf"):
            yield at


def _measurements(desired: Desired, observed: Observed, now: float, wall: float) -> Iterator[Job | float]:
    waiting = contested(desired, observed)
    for name, spec in desired.models.items():
        if spec.benchmark is None or spec.benchmark.when == "never" or name in waiting:
            continue
        facts = observed.of(name)
        key = None if not_for_text(spec, facts) else key_of(spec, facts, observed)
        if key is None or standing_failure(spec, facts, observed.engine) or (spec.preload and not facts.serving()):
            continue
        at, result = _again(facts, key), result_of(key, facts)
        if at is not None and at > now:
            if at != float("inf"):
                yield at
            continue
        if result is not None and not result.disturbed:
            if spec.benchmark.when != "schedule":
                continue
            left = result.at + spec.benchmark.every - wall
            if 0 < left <= spec.benchmark.every:  # else its clock was wrong
                yield now + left
                continue
        yield Job("measure", name, key, spec)


def _searches(desired: Desired, observed: Observed, now: float) -> Iterator[Job | float]:
    waiting = contested(desired, observed)
    for name, spec in desired.models.items():
        if spec.tunes == "off" or not spec.tunable or name in waiting or spec.suspend or desired.server.suspend:
            continue
        facts, tuning = observed.of(name), observed.tunings.get(name)
        key = None if not_for_text(spec, facts) else tuning_key(spec, facts, observed)
        if key is None or standing_failure(spec, facts, observed.engine) or (spec.preload and not facts.serving()):
            continue
        known = tuning if tuning is not None and tuning.key == key else None
        if known is not None and not known.done and known.again > now:
            yield known.again
        elif known is None or not known.done:
            yield Job("tune", name, key, spec)


def _again(facts: ModelFacts, key: str) -> float | None:
    """When it may be tried again; None where it was not tried, inf for not by itself."""
    verdict = facts.verdict
    if verdict is None or verdict.key != key:
        return None
    return float("inf") if verdict.again is None else verdict.again


def lost(spec: ModelSpec, facts: ModelFacts, engine: str) -> bool:
    """Nothing of what is to be protected serves, or will by waiting."""
    if facts.serving() is not None:
        return False
    if facts.network and current_file(spec, facts) is None:
        return True  # its bytes are not here: it never served, or not any more
    retry = standing_retry(spec, facts, engine)
    if retry is None or retry.at is None:
        return retry is not None
    beside = retry in (facts.adapterless, facts.draftless)
    gone = beside or retry.failure.condition in ("Resolved", "Downloaded", "Verified")
    return gone and retry.count >= TRIES
