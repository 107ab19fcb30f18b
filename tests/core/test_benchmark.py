"""What runs say: figures of made-up times, and differences that are told from noise."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.benchmark import ALPHA, Lane, Run, Workload, figures, is_clear, label, summary

LOAD = Workload(100, 5)


def test_one_sequence() -> None:
    found = figures(LOAD, [Lane(1.0, (3.0, 3.1, 3.2, 3.4, 3.5))])
    assert found["prompt_tps"] == 50.0
    assert found["generation_tps"] == pytest.approx(8.0)
    assert found["ttft"] == 2.0
    assert found["itl_p50"] == pytest.approx(0.1)
    assert found["itl_p95"] == pytest.approx(0.2)
    assert found["total"] == 2.5


def test_rates_of_several_add_up() -> None:
    """The first to have its prompt computed waits for the other: the answers begin at 4."""
    found = figures(Workload(100, 3), [Lane(0.0, (2.0, 5.0, 6.0)), Lane(2.0, (4.0, 5.0, 6.0))])
    assert (found["prompt_tps"], found["generation_tps"], found["ttft"]) == (50.0, 2.0, 2.0)
    assert (found["itl_p50"], found["itl_p95"], found["total"]) == (1.0, 1.0, 6.0)
    found = figures(Workload(0, 3, depth=(10,)), [Lane(2.0, (2.0, 5.0, 6.0)), Lane(4.0, (4.0, 5.0, 6.0))])
    assert (found["generation_tps"], found["total"]) == (2.0, 2.0)


def test_what_is_not_there_has_no_figure() -> None:
    found = figures(Workload(100, 0), [Lane(0.0, (2.0,))])
    assert (found["prompt_tps"], found["generation_tps"], found["itl_p50"]) == (50.0, None, None)
    found = figures(Workload(0, 3, depth=(10,)), [Lane(2.0, (2.0, 3.0, 4.0))])
    assert (found["prompt_tps"], found["ttft"], found["generation_tps"]) == (None, None, 1.0)


@given(
    start=st.floats(0, 1e3), wait=st.floats(1e-3, 1e3), gaps=st.lists(st.floats(1e-4, 10), min_size=1, max_size=50),
    count=st.integers(1, 5),
)  # fmt: skip
def test_figures_are_what_the_times_say(start: float, wait: float, gaps: list[float], count: int) -> None:
    times = [start + wait]
    for gap in gaps:
        times.append(times[-1] + gap)
    found = figures(Workload(64, len(times)), [Lane(start, tuple(times))] * count)
    assert found["prompt_tps"] == pytest.approx(64 * count / wait)
    assert found["generation_tps"] == pytest.approx(len(gaps) * count / sum(gaps), rel=1e-6)
    assert min(gaps) - 1e-9 <= (found["itl_p50"] or 0) <= (found["itl_p95"] or 0) <= max(gaps) + 1e-9
    assert found["total"] == pytest.approx(wait + sum(gaps))


def test_what_was_disturbed_does_not_count() -> None:
    runs = [
        Run(1, 0, {"ttft": 1.0}),
        Run(1, 0, {"ttft": 9.0}, "others"),
        Run(1, 0, {"ttft": 2.0}),
        Run(2, 0, {"ttft": 5.0}, "x"),
    ]
    found = summary(runs)
    assert [*found] == [(1, 0)]
    spread = found[1, 0]["ttft"]
    assert (spread.median, spread.low, spread.high, spread.values) == (1.5, 1.0, 2.0, (1.0, 2.0))


def test_names_are_those_of_llama_bench() -> None:
    assert label(Workload(), 1, 0) == "pp512 + tg128"
    assert label(Workload(0, 128), 1, 512) == "tg128 @ d512"
    assert label(Workload(512, 0), 4, 0) == "pp512 x 4"


@pytest.mark.parametrize(
    ("one", "other", "clear"),
    [
        ([1, 2, 3], [7, 8, 9], False),  # three cannot tell
        ([1, 2, 3, 4], [5, 6, 7, 8], True),
        ([1, 2, 3, 4], [4, 6, 7, 8], False),
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 9], True),
        ([1, 1, 1, 1], [1, 1, 1, 1], False),
        ([1, 3, 5, 7, 9], [2, 4, 6, 8, 10], False),
        ([*range(30)], [*range(30, 60)], True),  # by the normal
        ([*range(30)], [*range(30)], False),
    ],
)
def test_a_difference_is_clear_or_noise(one: list[float], other: list[float], clear: bool) -> None:
    assert is_clear(one, other) is clear
    assert is_clear(other, one) is clear


@pytest.mark.parametrize("count", [4, 5, 7, 12])
def test_noise_is_seldom_called_a_difference(count: int) -> None:
    dice = random.Random(count)
    called = sum(
        is_clear([dice.gauss(0, 1) for _ in range(count)], [dice.gauss(0, 1) for _ in range(count)]) for _ in range(400)
    )
    assert called / 400 <= ALPHA + 3 * (ALPHA * (1 - ALPHA) / 400) ** 0.5
