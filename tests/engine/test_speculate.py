"""Guesses: what they lose is bounded whatever the text is, what they win shows where it repeats, the text stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from offgridd.engine.record import GRANT, SHARE, Clock
from offgridd.engine.sequence import Sequence
from offgridd.engine.speculate import MOST, Speculator

# Seconds of a decode by its rows, measured on two cores: weights that are repacked for the processor, and not.
PACKED = ((1, 5.2), (2, 8.2), (5, 14.5), (9, 20.1), (17, 28.2))
PLAIN = ((1, 7.0), (2, 14.4), (5, 25.7), (9, 37.7), (17, 61.6))


def seconds(table: tuple[tuple[int, float], ...]) -> Callable[[int], float]:
    def of(rows: int) -> float:
        for (low, a), (high, b) in pairwise(table):
            if rows <= high:
                return (a + (b - a) * (rows - low) / (high - low)) / 1000
        return table[-1][1] / 1000 * rows / table[-1][0]

    return of


def generated(prompt: list[int], answer: list[int], cost: Callable[[int], float]) -> tuple[float, int]:
    """How long the answer took, and in how many decodes: the model says it whatever is guessed."""
    guesser, s = Speculator(), Sequence(1, "a", list(prompt), len(prompt), len(answer))
    s.tokens.append(answer[0])
    took, decodes = 0.0, 0
    while (made := len(s.tokens) - len(prompt)) < len(answer):
        guess = guesser.guesses([s], 99).get(1, [])
        assert len(guess) <= min(MOST, len(answer) - made)
        spent = cost(1 + len(guess))
        took, decodes = took + spent, decodes + 1
        guesser.took(1 + len(guess), spent)
        held = 0
        while held < len(guess) and guess[held] == answer[made + held]:
            held += 1
        s.tokens += answer[made : made + held + 1]
        guesser.checked(s, len(guess), held)
    assert s.tokens[len(prompt) :] == answer
    return took, decodes


TEXTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=30), min_size=1, max_size=12).map(
    lambda parts: [token for part in parts for token in part]
)


@settings(max_examples=300)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=200), TEXTS, st.sampled_from([PACKED, PLAIN]))
def test_what_guesses_lose_is_bounded(
    prompt: list[int], answer: list[int], table: tuple[tuple[int, float], ...]
) -> None:
    cost = seconds(table)
    took, _ = generated(prompt, answer, cost)
    plain = cost(1) * (len(answer) - 1)
    most = 2.5 * GRANT  # one guess may cost more than was thought while little is measured
    assert took <= plain * (1 + SHARE) + most * cost(1)


def test_nonsense_that_looks_like_a_repeat_costs_little() -> None:
    rng, cost = random.Random(1), seconds(PLAIN)
    words = [[rng.randrange(50_000) for _ in range(8)] for _ in range(40)]
    prompt = [token for word in words for token in word]
    answer = [token for _ in range(60) for token in [*rng.choice(words)[:7], rng.randrange(50_000)]][:300]
    took, _ = generated(prompt, answer, cost)
    assert took <= cost(1) * 299 / 0.97


@pytest.mark.parametrize(("table", "least"), [(PACKED, 1.9), (PLAIN, 1.4)])
def test_a_repeat_is_fast(table: tuple[tuple[int, float], ...], least: float) -> None:
    rng, cost = random.Random(2), seconds(table)
    text = [rng.randrange(50_000) for _ in range(300)]
    took, decodes = generated([1, 2, 3, *text, 4, 5], text, cost)
    assert cost(1) * 299 / took >= least
    assert decodes < 80


def test_several_sequences_share_what_there_is_room_for() -> None:
    guesser = Speculator()
    guesser.took(3, 0.010)
    guesser.took(40, 0.011)
    many = [Sequence(i, "a", [*range(50), *range(20 + i)], 50, 400) for i in range(3)]
    made = guesser.guesses(many, 20)
    assert 0 < sum(map(len, made.values())) <= 20
    for s in many:
        at = s.tokens[-1] + 1
        assert made.get(s.id, [at])[0] == at
    assert guesser.guesses(many, 0) == {}


def test_a_clock_knows_what_it_was_told_and_guesses_between() -> None:
    clock = Clock()
    assert clock.of(4) is None
    clock.took(1, 0.010)
    assert 0.010 < clock.of(2) < clock.of(9)  # type: ignore[operator]
    clock.took(9, 0.030)
    assert clock.of(5) == pytest.approx(0.020)
    clock.took(9, 9.0)
    assert clock.of(9) < 0.1  # type: ignore[operator]
