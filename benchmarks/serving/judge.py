"""From interleaved pairs to a verdict. Pure.

A ratio says how many times better the first of a pair is, so that every bound is "at least so many times". A bound
holds when the good (upper) end of the median ratio's 95 % interval meets it and the interval is no wider than twice
the bound's distance from 1; it holds, too, where the bad end meets it, however wide the interval is. A bound of 1 has
no distance: there the widest is FINEST, what the finest other bound (within 3 %) allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

RESAMPLES, SEED = 10_000, 4
FINEST = 0.06  # the widest interval that any bound has to accept
Verdict = Literal["holds", "falls short", "undecided", "stated"]


class Judged(NamedTuple):
    ratio: float
    low: float
    high: float
    verdict: Verdict


def ratios(pairs: Sequence[tuple[float, float]], *, higher: bool) -> list[float]:
    """How many times better the first of each pair is; `higher`: more is better."""
    return [a / b if higher else b / a for a, b in pairs]


def interval(found: Sequence[float]) -> tuple[float, float]:
    """Where the median lies with 95 %, by resampling; the same for the same numbers."""
    values = np.asarray(found, dtype=np.float64)
    drawn = np.random.default_rng(SEED).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def widest(bound: float) -> float:
    """How wide an interval may be that decides about this bound."""
    return max(2 * abs(bound - 1), FINEST)


def judge(found: Sequence[float], bound: float | None) -> Judged:
    """`bound` None: nothing was promised, the figures are only stated."""
    ratio, (low, high) = float(np.median(found)), interval(found)
    return Judged(ratio, low, high, _verdict(low, high, bound))


def _verdict(low: float, high: float, bound: float | None) -> Verdict:
    if bound is None:
        return "stated"
    if low >= bound:
        return "holds"
    if high < bound:
        return "falls short"
    return "holds" if high - low <= widest(bound) else "undecided"


def settled(found: Sequence[float], bound: float | None, least: int) -> bool:
    """Whether no more pairs are needed: there are `least`, and the interval decides or lies on one side."""
    return len(found) >= least and judge(found, bound).verdict != "undecided"


def clear(found: Sequence[float], bound: float | None) -> bool:
    """Whether a few pairs are enough: the interval lies on one side, at least its own width from the bound."""
    low, high = interval(found)
    return bound is None or max(low - bound, bound - high) >= high - low
