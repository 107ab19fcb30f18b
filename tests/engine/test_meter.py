"""What the worker measures of itself."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.engine.meter import SPREADS, Histogram, Meter, Stopwatch
from offgridd.engine.wire import BOUNDS, Gauges, Spread, Timings

EMPTY = Spread((0,) * (len(BOUNDS) + 1), 0.0)
TIMES = st.lists(st.floats(0, 100), max_size=50)


def place(seconds: float) -> int:
    """Where one value is counted."""
    histogram = Histogram()
    histogram.add(seconds)
    counts = histogram.taken().counts
    assert (len(counts), sum(counts)) == (len(BOUNDS) + 1, 1)
    return counts.index(1)


@pytest.mark.parametrize(("index", "bound"), list(enumerate(BOUNDS)))
def test_a_bound_belongs_to_its_own_bucket_and_what_is_above_to_the_next(index: int, bound: float) -> None:
    assert place(math.nextafter(bound, 0)) == place(bound) == index
    assert place(math.nextafter(bound, math.inf)) == index + 1


def test_the_bounds_ascend_and_nothing_is_outside() -> None:
    assert all(a < b for a, b in pairwise(BOUNDS))
    assert (place(0.0), place(1e9)) == (0, len(BOUNDS))


@given(TIMES, TIMES)
def test_a_spread_counts_each_once_and_begins_anew(first: list[float], second: list[float]) -> None:
    histogram = Histogram()
    for values in (first, second):
        for value in values:
            histogram.add(value)
        spread = histogram.taken()
        assert spread.total == pytest.approx(sum(values))
        assert [sum(spread.counts[: i + 1]) for i in range(len(BOUNDS))] == [
            sum(value <= bound for value in values) for bound in BOUNDS
        ]
        assert sum(spread.counts) == len(values)
    assert histogram.taken() == EMPTY


def times(found: Timings) -> tuple[float, ...]:
    return found.queue, found.prefill, found.generation, found.longest_gap


@given(st.floats(0, 100), st.floats(0, 10), st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_a_request_has_the_times_that_it_took(arrived: float, queue: float, gaps: list[float]) -> None:
    watch = Stopwatch(arrived)
    assert watch.timings() is None
    watch.placed = now = arrived + queue
    assert watch.timings() is None, "no token was made yet"
    for gap in gaps:
        now += gap
        watch.token(now)
    found = watch.timings()
    assert found is not None
    assert times(found) == pytest.approx((queue, gaps[0], sum(gaps[1:]), max(gaps[1:], default=0.0)), abs=1e-9)


def test_of_a_single_token_there_is_no_gap() -> None:
    watch = Stopwatch(1.0, placed=2.0)
    assert watch.token(5.0) is None
    assert watch.timings() == Timings(1.0, 3.0, 0.0, 0.0)
    assert watch.token(5.5) == 0.5


def used() -> Meter:
    meter, watch = Meter(), Stopwatch(1.0, placed=1.5)
    for now in (3.0, 3.25, 4.0):
        meter.token(watch, now)
    meter.stepped(100, 0)
    meter.stepped(0, 3)
    meter.stepped(0, 4)
    for reason, cached in (("stop", 7), ("length", 0), ("stop", 5)):
        meter.ended(reason, cached)
    return meter


def test_a_report_has_all_that_was_since_the_last_one() -> None:
    stats = used().take(Gauges(running=2))
    assert (stats.now, stats.steps, stats.step_rows, stats.prompt_tokens) == (Gauges(running=2), 2, 7, 100)
    assert (stats.cached_tokens, stats.ends) == (12, {"stop": 2, "length": 1})
    found = {name: (sum(spread.counts), spread.total) for name, spread in stats.spreads.items()}
    assert found == {"queue": (1, 0.5), "prefill": (1, 1.5), "first_token": (1, 2.0), "inter_token": (2, 1.0)}


def test_the_next_report_begins_at_zero_and_the_last_one_stays_as_it_was() -> None:
    meter = used()
    first = meter.take(Gauges())
    second = meter.take(Gauges(threads=3))
    assert (second.now, second.steps, second.step_rows) == (Gauges(threads=3), 0, 0)
    assert (second.prompt_tokens, second.cached_tokens, second.ends) == (0, 0, {})
    assert second.spreads == dict.fromkeys(SPREADS, EMPTY)
    meter.ended("stop")
    assert first.ends == {"stop": 2, "length": 1}
