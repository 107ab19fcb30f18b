"""Sets of adapters take turns: none starves, streams have as many tokens each, and changes are rare."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from offgridd.engine.turns import SECONDS, STEPS, Turns


@given(st.lists(st.sets(st.integers(0, 5), max_size=6), max_size=200), st.floats(0, 0.3))
def test_whose_turn_it_is_wants_one_and_nobody_waits_for_long(steps: list[set[int]], seconds: float) -> None:
    turns, waited = Turns(), Counter[int]()
    for wanting in steps:
        chosen = turns.take(wanting)
        turns.took(seconds)
        assert chosen in (wanting or {0})
        for one in list(waited):
            if one not in wanting:
                del waited[one]
        waited.update(wanting - {chosen})
        waited.pop(chosen, None)
        assert max(waited.values(), default=0) <= 6 * STEPS


@given(st.integers(2, 6), st.lists(st.floats(0.001, 0.02), min_size=6, max_size=6))
def test_sets_that_always_want_have_as_many_steps(count: int, each: list[float]) -> None:
    turns, had, changes, last = Turns(), Counter[int](), 0, -1
    for _ in range(120):
        chosen = turns.take(set(range(count)))
        turns.took(each[chosen])
        changes += chosen != last
        had[chosen], last = had[chosen] + 1, chosen
    assert max(had.values()) - min(had.values()) <= STEPS
    assert changes <= 120 / STEPS + 1


def test_long_steps_are_turns_by_themselves() -> None:
    turns, chosen = Turns(), list[int]()
    for _ in range(6):
        chosen.append(turns.take({1, 2}))
        turns.took(SECONDS)
    assert chosen == [1, 2, 1, 2, 1, 2]
