"""Slots of those that are computed together lie side by side, and as few as can be move for it."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from offgridd.engine.slots import gathered, place

SLOTS = 6
TAKEN = st.dictionaries(st.integers(0, SLOTS - 1), st.integers(0, 2))


def runs(taken: dict[int, int], wears: int) -> int:
    """In how many pieces the slots of a set lie."""
    own = sorted(slot for slot, worn in taken.items() if worn == wears)
    return sum(slot - 1 not in own for slot in own)


def filled(asked: list[int], slots: int) -> dict[int, int]:
    taken: dict[int, int] = {}
    for wears in asked:
        slot = place(taken, wears, slots)
        assert slot not in taken
        taken[slot] = wears
    return taken


def test_those_of_one_set_fill_the_slots_from_the_first_on() -> None:
    assert list(filled([0] * 8, 8)) == list(range(8))


@given(st.permutations([0] * 4 + [1] * 4))
def test_two_sets_that_come_in_any_order_lie_each_in_one_piece(asked: list[int]) -> None:
    taken = filled(asked, 8)
    assert runs(taken, 0) == runs(taken, 1) == 1


def test_a_gap_is_filled_before_the_row_grows() -> None:
    assert place({0: 0, 1: 0, 3: 0}, 0, 8) == 2
    assert place({4: 0, 5: 0, 0: 1}, 0, 8) in (3, 6)


@given(TAKEN, st.integers(0, 2), st.sets(st.integers(0, SLOTS - 1)))
def test_the_fewest_move_and_only_those_that_may(taken: dict[int, int], wears: int, fixed: set[int]) -> None:
    moves = gathered(taken, wears, SLOTS, fixed)
    now = dict(taken)
    for old, new in moves:
        assert now.pop(old) == wears
        assert old not in fixed
        assert new not in now
        now[new] = wears
    own = [slot for slot, worn in taken.items() if worn == wears]
    free = [slot for slot in range(SLOTS) if slot not in taken]
    others = {slot: worn for slot, worn in taken.items() if worn != wears}
    ways = set(map(frozenset, combinations([*own, *free], len(own))))
    possible = [
        len({*own} - way)
        for way in ways
        if runs({**others, **dict.fromkeys(way, wears)}, wears) <= 1 and not ({*own} - way) & fixed
    ]
    least = min(possible, default=None)
    assert len(moves) == (least or 0)
    assert runs(now, wears) <= 1 or least is None
