"""The verdict over a benchmark's bounds."""

from __future__ import annotations

import pytest
from serving.judge import FINEST, clear, interval, judge, ratios, settled, widest

NEAR = [1.0 + i / 100 for i in (-2, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2)]  # narrow around 1
WILD = [0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.4, 1.9, 2.2, 2.4, 2.6, 2.8, 3.0, 3.1, 3.2]


def test_a_ratio_says_how_many_times_better_the_first_is() -> None:
    assert ratios([(10, 5), (4, 2)], higher=True) == [2, 2]
    assert ratios([(2, 10)], higher=False) == [5]


def test_a_bound_holds() -> None:
    found = judge([x * 1.2 for x in NEAR], 1.2)
    assert found.verdict == "holds"
    assert found.low <= found.ratio == 1.2 <= found.high
    assert judge(NEAR, 1.0).verdict == "holds"


def test_a_bound_that_is_missed_falls_short() -> None:
    found = judge([x * 0.9 for x in NEAR], 0.95)
    assert found.verdict == "falls short"
    assert found.high < 0.95


@pytest.mark.parametrize("bound", [1.0, 1.2, 0.95])
def test_an_interval_that_is_too_wide_decides_nothing(bound: float) -> None:
    low, high = interval(WILD)
    assert low < bound <= high
    assert high - low > widest(bound)
    assert judge(WILD, bound).verdict == "undecided"
    assert not settled(WILD, bound, 15)


def test_a_wide_interval_on_one_side_is_clear_all_the_same() -> None:
    assert judge([x + 4 for x in WILD], 4.0).verdict == "holds"
    assert judge([x / 10 for x in WILD], 4.0).verdict == "falls short"


def test_at_a_bound_of_one_the_width_that_the_finest_bound_has_is_allowed() -> None:
    assert widest(1.0) == FINEST
    assert [widest(b) for b in (0.97, 0.8)] == pytest.approx([FINEST, 0.4])
    assert widest(8) == 14


def test_pairs_are_enough_only_from_the_least_number_on() -> None:
    assert settled(NEAR, 1.0, 15)
    assert not settled(NEAR[:14], 1.0, 15)


def test_a_few_pairs_are_enough_where_the_bound_is_far() -> None:
    assert clear([15.0, 15.4, 15.8, 16.0, 15.2], 8)
    assert not clear([8.0, 8.4, 8.8, 9.0, 8.2], 8)


def test_the_interval_is_the_same_for_the_same_numbers_and_wider_for_wilder_ones() -> None:
    assert interval(WILD) == interval(WILD)
    assert interval(WILD)[1] - interval(WILD)[0] > interval(NEAR)[1] - interval(NEAR)[0]


def test_without_a_bound_figures_are_only_stated() -> None:
    assert judge(WILD, None).verdict == "stated"
