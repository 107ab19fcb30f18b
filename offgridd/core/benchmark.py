"""What a benchmark is: its workload, what comes of one measurement, and what many say together. Pure.

Rates are tokens a second, times are seconds. `pp` and `tg` are named as llama-bench does: pp512 is a prompt of 512
tokens, tg128 an answer of 128; `@ d512` says how many tokens stood before.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise, product
from typing import Any, Final, Literal

from offgridd.core.stamps import stamp

FORMAT: Final = "offgridd.benchmark/v1"
MOST_TOKENS, MOST_ITERATIONS, MOST_KINDS = 1 << 20, 100, 16
ALPHA: Final = 0.05  # how likely a difference may be chance that is called one

Tune = Literal["off", "propose", "apply"]
LEAST_RUNS: Final = 4  # a side: of fewer no order is so unlikely that it could not be chance


@dataclass(frozen=True, slots=True)
class Workload:
    """Every number of sequences at once with every depth, `iterations` times each."""

    prompt_tokens: int = 512
    output_tokens: int = 128
    iterations: int = 3
    concurrency: tuple[int, ...] = (1,)
    depth: tuple[int, ...] = (0,)

    @property
    def kinds(self) -> tuple[tuple[int, int], ...]:
        """(concurrency, depth) in the order in which they are measured."""
        return tuple(product(self.concurrency, self.depth))


@dataclass(frozen=True, slots=True)
class BenchmarkSpec:
    """When a model is measured by itself, and how good it has to be. Seconds; rates are tokens a second."""

    when: Literal["on_change", "schedule", "never"] = "on_change"
    every: float = 168 * 3600.0  # of a schedule
    workload: Workload = Workload(iterations=5)
    idle: float = 30.0  # so long no request must have been answered before
    max_wait: float = 24 * 3600.0  # for that
    min_generation_tps: float | None = None
    max_ttft: float | None = None
    max_regression: float | None = None  # the share of a rate that may be lost
    on_fail: Literal["report", "hold"] = "report"
    on_timeout: Literal["keep", "swap"] = "keep"
    tune: Tune = "off"  # whether faster load fields are searched, where none are declared, and what is done with them
    tune_time: float = 1800.0  # the most that one search may measure

    @property
    def holds(self) -> bool:
        """Whether a change has to prove itself before it takes the place of what serves."""
        return self.on_fail == "hold" and self.when != "never"


@dataclass(frozen=True, slots=True)
class Lane:
    """One sequence: when its prompt's turn came, and when each token of its answer was there; from one zero."""

    prompt: float
    tokens: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. A figure is None where the workload has nothing to measure it by."""

    concurrency: int
    depth: int
    figures: Mapping[str, float | None]
    disturbed: str = ""  # by what; it does not count then


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the runs that count."""

    median: float
    low: float
    high: float
    values: tuple[float, ...] = field(repr=False, default=())


def figures(workload: Workload, lanes: Sequence[Lane]) -> dict[str, float | None]:
    """Of all sequences together: rates add up, a time is the median of the sequences' own.

    They wait for each other between prompt and answer, so that the answers begin with the last one's first token.
    """
    prompts, first = workload.prompt_tokens * len(lanes), max(lane.tokens[0] for lane in lanes)
    begun = min(lane.prompt for lane in lanes) if prompts else first
    gaps = sorted(b - a for lane in lanes for a, b in pairwise((first, *lane.tokens[1:])))
    last = max(lane.tokens[-1] for lane in lanes)
    made, generating = len(gaps), last - first
    return {
        "prompt_tps": prompts / (first - begun) if prompts and first > begun else None,
        "generation_tps": made / generating if made and generating > 0 else None,
        "ttft": statistics.median(lane.tokens[0] - lane.prompt for lane in lanes) if prompts else None,
        "itl_p50": _quantile(gaps, 0.5),
        "itl_p95": _quantile(gaps, 0.95),
        "total": last - begun,
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summary(runs: Iterable[Run]) -> dict[tuple[int, int], dict[str, Spread]]:
    """By (concurrency, depth); only of runs that nothing disturbed."""
    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    for run in runs:
        if not run.disturbed:
            by = found.setdefault((run.concurrency, run.depth), {})
            for name, value in run.figures.items():
                if value is not None:
                    by.setdefault(name, []).append(value)
    return {kind: {name: _spread(values) for name, values in by.items()} for kind, by in found.items()}


def _spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values), tuple(values))


def label(workload: Workload, concurrency: int, depth: int) -> str:
    """pp512 + tg128 @ d512 x 4."""
    parts = [f"pp{workload.prompt_tokens}"] if workload.prompt_tokens else []
    parts += [f"tg{workload.output_tokens}"] if workload.output_tokens else []
    return " + ".join(parts) + (f" @ d{depth}" if depth else "") + (f" x {concurrency}" if concurrency > 1 else "")


def headline(record: Mapping[str, Any]) -> str:
    """The first kind of a kept record in a few words."""
    first = record["results"][0]
    parts = [
        f"{first[name]['median']:.1f} {what}"
        for name, what in (("prompt_tps", "prompt tokens/s"), ("generation_tps", "tokens/s"))
        if name in first
    ]
    return f"{first['label']} at {stamp(record['started'])}: {', '.join(parts)}" + (
        ", disturbed" if first["disturbed"] else ""
    )


def host_kind(environment: Mapping[str, Any]) -> str:
    """What makes figures of two machines incomparable, from what a record says of the one."""
    parts = [environment.get(name) for name in ("cpu", "cores", "machine")]
    return ", ".join(str(part) for part in [*parts, *(environment.get("gpus") or ())])


def is_clear(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two sets of values differ by more than noise: the exact two-sided rank-sum test at ALPHA.

    Mann and Whitney 1947, ties counted half. Under four values on either side no difference can be clear.
    """
    if min(len(one), len(other)) < LEAST_RUNS:
        return False
    if math.comb(len(one) + len(other), len(one)) > 200_000:
        return _by_normal(one, other) <= ALPHA
    values = [*one, *other]
    ranks = _ranks(values)
    middle = len(one) * (len(values) + 1) / 2
    seen = abs(sum(ranks[: len(one)]) - middle)
    sums = [abs(sum(chosen) - middle) for chosen in combinations(ranks, len(one))]
    return sum(found >= seen - 1e-9 for found in sums) / len(sums) <= ALPHA


def _by_normal(one: Sequence[float], other: Sequence[float]) -> float:
    n, m = len(one), len(other)
    ordered = sorted(other)
    above = sum(bisect_left(ordered, a) + bisect_right(ordered, a) for a in one) / 2
    z = (above - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(z) / math.sqrt(2))


def _ranks(values: Sequence[float]) -> list[float]:
    """From 1; those that are alike share the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]
