"""Intervals and verdicts: exact against counting by hand, right as often as they say, no flag where nothing changed."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.benchmark import BenchmarkSpec, is_clear
from offgridd.core.judging import (
    LEAST_PAIRS,
    MOST_PAIRS,
    Figures,
    _rank,
    _ways,
    below,
    judge_pairs,
    median_interval,
    ratio_interval,
)

TEN = BenchmarkSpec(max_regression=0.1, on_fail="hold")
VALUES = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=40)


def pairs(ratios: list[float], name: str = "generation_tps", old: float = 50.0) -> list[tuple[Figures, Figures]]:
    return [({name: old}, {name: old * ratio}) for ratio in ratios]


@pytest.mark.parametrize(("count", "rank"), [(5, 0), (6, 1), (15, 4), (60, 22)])
def test_the_interval_of_a_median_has_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    """The ranks of the tables of the binomial distribution."""
    found = median_interval([float(i) for i in range(1, count + 1)])
    assert (found.low, found.high) == ((rank, count + 1 - rank) if rank else (-math.inf, math.inf))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 3), (4, 4), (5, 3), (5, 5)])
def test_orders_are_counted_as_by_hand(n: int, m: int) -> None:
    counted = [0] * (n * m + 1)
    for ours in combinations(range(n + m), n):
        counted[sum(sum(1 for other in range(n + m) if other not in ours and other < one) for one in ours)] += 1
    assert _ways(n, m) == counted


def test_the_interval_of_a_ratio_and_the_rank_test_say_the_same() -> None:
    dice = random.Random(5)
    for _ in range(300):
        new, old = [dice.gauss(1, 0.05) for _ in range(5)], [dice.gauss(1.05, 0.05) for _ in range(6)]
        found = ratio_interval(new, old)
        assert is_clear(new, old) == (not found.low <= 1 <= found.high)


def test_three_runs_tell_nothing_and_many_are_as_good_as_counted_out() -> None:
    assert ratio_interval([1, 1, 1], [2, 2, 2]).high == math.inf
    assert abs(_rank(20, 20) - _rank(21, 20)) < 15


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    dice, caught = random.Random(7), 0
    for _ in range(1000):
        found = median_interval([dice.lognormvariate(0, 0.2) for _ in range(15)])
        caught += found.low <= 1 <= found.high
    assert caught >= 940


@given(VALUES)
def test_a_median_lies_in_its_interval(values: list[float]) -> None:
    found = median_interval(values)
    assert found.low <= found.mid <= found.high
    assert found.mid == statistics.median(values)


def verdicts(ratio: float, noise: float) -> Counter[str]:
    """Of 300 contests, each until it is decided; the same ones every time: a verdict may be wrong by chance."""
    found: Counter[str] = Counter()
    for seed in range(300):
        dice = random.Random(seed)
        ratios = [ratio * dice.lognormvariate(0, noise) for _ in range(MOST_PAIRS)]
        outcomes = (judge_pairs(pairs(ratios[:count]), TEN) for count in range(1, MOST_PAIRS + 1))
        found[next(outcome.reason for outcome in outcomes if outcome is not None)] += 1
    return found


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15, 0.25])
def test_what_changes_nothing_is_not_flagged(noise: float) -> None:
    """And has a verdict in three of four, as benchmarks/regress.py asks of a daemon."""
    found = verdicts(1.0, noise)
    assert found["Regressed"] == 0
    assert found[""] >= 225


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1, 0.15])
def test_a_fifth_less_is_flagged_nearly_always(noise: float) -> None:
    found = verdicts(0.8, noise)
    assert found["Regressed"] >= 285
    assert found[""] <= 3


def test_so_few_pairs_say_nothing_and_so_many_end_it() -> None:
    assert judge_pairs(pairs([0.1] * (LEAST_PAIRS - 1)), TEN) is None
    wide = [0.2, 1.9] * (MOST_PAIRS // 2)
    assert judge_pairs(pairs(wide[:-1]), TEN) is None
    last = judge_pairs(pairs(wide), TEN)
    assert last is not None
    assert last.reason == "NoVerdict"


def test_what_is_much_faster_holds_however_wide() -> None:
    found = judge_pairs(pairs([2.0, 9.0, 5.0] * 5), TEN)
    assert found is not None
    assert found.reason == ""


def test_a_limit_that_what_serves_misses_too_is_no_fault_of_the_change() -> None:
    limit = BenchmarkSpec(min_generation_tps=40, on_fail="hold")
    for old, ratio, reason in ((50, 0.7, "BelowThreshold"), (30, 0.9, ""), (50, 0.9, "")):
        found = judge_pairs(pairs([ratio] * LEAST_PAIRS, old=old), limit)
        assert found is not None
        assert found.reason == reason


def test_less_is_better_of_a_time() -> None:
    limit = BenchmarkSpec(max_ttft=1.0, on_fail="hold")
    for old, ratio, reason in ((0.9, 1.3, "BelowThreshold"), (1.5, 1.0, ""), (0.9, 1.0, "")):
        found = judge_pairs(pairs([ratio] * LEAST_PAIRS, "ttft", old), limit)
        assert found is not None
        assert found.reason == reason
    assert below(limit, "pp64", {"ttft": 1.2}) == "pp64: 1.2 seconds to the first token, 1 is declared"
    assert below(limit, "pp64", {"ttft": 0.2}) == ""
