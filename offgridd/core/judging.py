"""Whether one measurement is worse than another, or good enough. Pure.

Two ways: pairs that were measured in turns, which alone may hold a change back, and two sets of runs of different
days, which are for a report. All intervals are exact, at 95 %, and the same data give the same answer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Final, Literal

from offgridd.core.benchmark import ALPHA, BenchmarkSpec

LEAST_PAIRS, MOST_PAIRS = 15, 60
RATES: Final = {"prompt_tps": "prompt", "generation_tps": "generation"}
_EXACT: Final = 400  # products of two numbers of runs up to which their distribution is counted out

Figures = Mapping[str, float | None]
Answer = Literal["holds", "fails", "open"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and between what it is likely to lie; from -inf to inf where too little is known."""

    low: float
    mid: float
    high: float

    def __str__(self) -> str:
        return f"{self.mid:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`reason`: "" where nothing is worse, else Regressed, BelowThreshold or NoVerdict."""

    reason: str
    text: str


def median_interval(values: Sequence[float]) -> Interval:
    """By the ranks that the sign test leaves: no shape of the noise is presumed. Six values are the least."""
    ordered, mid = sorted(values), statistics.median(values)
    outside, rank = 0.5 ** len(ordered), 0
    while 2 * outside <= ALPHA:
        rank += 1
        outside += math.comb(len(ordered), rank) * 0.5 ** len(ordered)
    return Interval(ordered[rank - 1], mid, ordered[-rank]) if rank else Interval(-math.inf, mid, math.inf)


def ratio_interval(new: Sequence[float], old: Sequence[float]) -> Interval:
    """Of `new` to `old`, all above 0: by the ranks that the rank-sum test leaves.

    Four values a side are the least, or three beside five.

    Hodges and Lehmann 1963, of the logarithms.
    """
    ratios = sorted(a / b for a, b in product(new, old))
    mid, rank = statistics.median(ratios), _rank(len(new), len(old))
    return Interval(ratios[rank - 1], mid, ratios[-rank]) if rank else Interval(-math.inf, mid, math.inf)


@cache
def _rank(n: int, m: int) -> int:
    """How many of the n x m ordered ratios an interval of 95 % leaves out at each end, and one; 0: there is none."""
    if n * m > _EXACT:
        return max(0, math.floor(n * m / 2 - 1.96 * math.sqrt(n * m * (n + m + 1) / 12)))
    ways, total, outside, rank = _ways(n, m), math.comb(n + m, n), 0, 0
    for count in ways:
        outside += count
        if 2 * outside / total > ALPHA:
            return rank
        rank += 1
    return rank


def _ways(n: int, m: int) -> list[int]:
    """By u, in how many orders of n + m values the statistic of Mann and Whitney is u."""
    found = [[1] + [0] * (n * m) for _ in range(n + 1)]  # for no values of the other side: always 0
    for others in range(1, m + 1):
        row = [[1] + [0] * (n * m)]
        for ours in range(1, n + 1):
            less, same = row[ours - 1], found[ours]
            row.append([(less[u - others] if u >= others else 0) + same[u] for u in range(n * m + 1)])
        found = row
    return found[n]


def judge_pairs(pairs: Sequence[tuple[Figures, Figures]], spec: BenchmarkSpec) -> Outcome | None:
    """What (old, new) pairs say of the change; None: more of them are needed."""
    if len(pairs) < LEAST_PAIRS:
        return None
    found = list(_checks(pairs, spec))
    text = f"{len(pairs)} pairs: " + "; ".join(said for _, _, said in found)
    failed = [reason for answer, reason, _ in found if answer == "fails"]
    if failed:
        return Outcome(failed[0], text)
    if all(answer == "holds" for answer, _, _ in found):
        return Outcome("", text)
    return Outcome("NoVerdict", text) if len(pairs) >= MOST_PAIRS else None


def _checks(pairs: Sequence[tuple[Figures, Figures]], spec: BenchmarkSpec) -> Iterator[tuple[Answer, str, str]]:
    """Each limit: the answer, what it means where it fails, and in words."""
    if spec.max_regression is not None:
        bound = 1 - spec.max_regression
        for name, what in RATES.items():
            ratios = [b / a for old, new in pairs if (a := old.get(name)) and (b := new.get(name))]
            if ratios:
                found = median_interval(ratios)
                said = f"{what} {found} of what serves, {bound:.3g} is the least"
                yield at_least(found, bound, 2 * (1 - bound)), "Regressed", said
    for limit, name, what, sign in _limits(spec):
        old = [sign * value for figures, _ in pairs if (value := figures.get(name)) is not None]
        new = [sign * value for _, figures in pairs if (value := figures.get(name)) is not None]
        if not old or not new:
            continue
        found, bound = median_interval(new), sign * limit
        answer = at_least(found, bound, math.inf)
        if statistics.median(old) < bound:  # what serves misses it, too: that is no fault of the change
            answer = "holds"
        yield answer, "BelowThreshold", f"{what} {abs(found.mid):.3g}, {limit:g} is declared"


def at_least(found: Interval, bound: float, widest: float) -> Answer:
    """It fails where it is surely below; holds where it surely is not, or likely is not and is known well enough."""
    if found.high < bound:
        return "fails"
    known = found.low >= bound or found.high - found.low <= widest
    return "holds" if found.mid >= bound and known else "open"


def _limits(spec: BenchmarkSpec) -> Iterator[tuple[float, str, str, int]]:
    """Limit, figure, in words, and -1 where less is better."""
    if spec.min_generation_tps is not None:
        yield spec.min_generation_tps, "generation_tps", "tokens a second", 1
    if spec.max_ttft is not None:
        yield spec.max_ttft, "ttft", "seconds to the first token", -1


def below(spec: BenchmarkSpec, label: str, figures: Figures) -> str:
    """Which limit the medians of one kind of run miss, "" for none."""
    for limit, name, what, sign in _limits(spec):
        value = figures.get(name)
        if value is not None and sign * value < sign * limit:
            return f"{label}: {value:.3g} {what}, {limit:g} is declared"
    return ""
