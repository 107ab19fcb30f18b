"""The condition Benchmarked: what was measured of a model as it is declared, and whether that is good enough."""

from __future__ import annotations

from typing import Final

from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.challenge import challenger_name
from offgridd.core.condition import Condition
from offgridd.core.desired import ModelSpec
from offgridd.core.judging import below
from offgridd.core.keys import bench_key, load_key
from offgridd.core.observed import ModelFacts, Observed, Result
from offgridd.core.plan import complete_file, current_file, standing_failure
from offgridd.core.purpose import pooling_of

_KIND: Final = "Benchmarked"
_WAITS: Final = "what is declared is measured against what serves before it takes its place"


def key_of(spec: ModelSpec, facts: ModelFacts, observed: Observed) -> str | None:
    """What a measurement of the model would be of; None before its file is known, or where none is declared."""
    file = complete_file(spec, facts)
    if file is None or spec.benchmark is None:
        return None
    return bench_key(load_key(spec, file.key, observed.engine), spec.benchmark.workload, observed.host.kind)


def not_for_text(spec: ModelSpec, facts: ModelFacts) -> bool:
    """Whether it is known to make vectors or scores, of which nothing is measured."""
    file = current_file(spec, facts)
    return file is not None and bool(pooling_of(file.header, spec.load))


def challenger_key(declared: ModelSpec, observed: Observed) -> str | None:
    """The same of what is declared and does not serve yet."""
    return key_of(declared, observed.of(challenger_name(declared.name)), observed)


def result_of(key: str | None, facts: ModelFacts) -> Result | None:
    return next((one for one in reversed(facts.results) if one.bench_key == key), None) if key else None


def benchmarked(spec: ModelSpec, facts: ModelFacts, observed: Observed, declared: ModelSpec | None = None) -> Condition:
    """`declared`: what is to be judged before it replaces `spec`."""
    if declared is not None:
        return _contested(declared, facts, observed)
    if not_for_text(spec, facts):
        return Condition(_KIND, "Unknown", "NotMeasured", "benchmarks are of models for text")
    key, verdict, file = key_of(spec, facts, observed), facts.verdict, current_file(spec, facts)
    if verdict is not None and verdict.key == key:
        return Condition(_KIND, verdict.status, verdict.reason, verdict.message)
    newest = facts.results[-1] if facts.results else None
    if spec.benchmark is None or spec.benchmark.when == "never":
        found = newest if newest and file and load_key(spec, file.key, observed.engine) == newest.load_key else None
    else:
        found = result_of(key, facts)
    if found is None:
        before = f"as it was loaded before: {newest.text}" if newest else ""
        return Condition(_KIND, "Unknown", "OutOfDate" if newest else "NotMeasured", before)
    return _measured(found, spec.benchmark) if spec.benchmark else Condition(_KIND, "True", "Measured", found.text)


def _measured(found: Result, spec: BenchmarkSpec) -> Condition:
    missed = [text for label, figures in found.kinds if (text := below(spec, label, figures))]
    if found.disturbed:
        return Condition(_KIND, "Unknown", "Disturbed", f"{found.text}; it is measured again later")
    if missed:
        return Condition(_KIND, "False", "BelowThreshold", "; ".join(missed))
    if spec.max_regression is None:
        return Condition(_KIND, "True", "Measured", found.text)
    if found.least is None:
        return Condition(_KIND, "True", "NoBaseline", f"{found.text}; there is nothing yet to hold it against")
    if found.least < 1 - spec.max_regression:
        return Condition(_KIND, "False", "Regressed", f"{found.least_text}; {found.text}")
    return Condition(_KIND, "True", "Measured", found.text)


def _contested(declared: ModelSpec, facts: ModelFacts, observed: Observed) -> Condition:
    verdict, other = facts.verdict, observed.of(challenger_name(declared.name))
    if verdict is not None and verdict.key == challenger_key(declared, observed):
        return Condition(_KIND, verdict.status, verdict.reason, verdict.message)
    failure = standing_failure(declared, other, observed.engine)
    if failure is not None:
        return Condition(_KIND, "Unknown", failure.reason, f"{_WAITS}, and can not be: {failure.message}")
    if other.workers:
        return Condition(_KIND, "Unknown", "Measuring", _WAITS)
    return Condition(_KIND, "Unknown", "WaitsForIdle", f"{_WAITS}; that waits until the machine is idle")
