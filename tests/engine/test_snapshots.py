"""Whole states against a plain model of them: a list, the one used last at its end."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from offgridd.engine.prefix import Piece
from offgridd.engine.snapshots import Snapshots

TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=6)
BUDGETS = st.integers(0, 40)


class Keeping(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.snapshots, self.budget, self.count = Snapshots(30), 30, 0
        self.kept: list[tuple[list[int], bytes]] = []

    def longest(self, tokens: list[int]) -> tuple[list[int], bytes] | None:
        """The kept one that all of `tokens` begin with, or are."""
        fitting = [one for one in self.kept if tokens[: len(one[0])] == one[0]]
        return max(fitting, key=lambda one: len(one[0]), default=None)

    def trim(self) -> None:
        while sum(len(state) for _, state in self.kept) > self.budget:
            del self.kept[0]

    @rule(tokens=TOKENS, size=st.integers(0, 40))
    def keep(self, tokens: list[int], size: int) -> None:
        self.count += 1
        state = bytes([self.count % 256]) * size
        self.snapshots.insert(tokens, 0, state)
        if size <= self.budget:
            self.kept = [one for one in self.kept if one[0] != tokens] + [(tokens, state)]
            self.trim()

    @rule(tokens=TOKENS)
    def use(self, tokens: list[int]) -> None:
        found = self.longest(tokens)
        if found is None:
            assert self.snapshots.match(tokens) == []
            return
        assert self.snapshots.match(tokens) == [Piece(found[1], 0, len(found[0]))]
        self.kept.remove(found)
        self.kept.append(found)

    @rule(tokens=TOKENS)
    def look(self, tokens: list[int]) -> None:
        """Which is no use."""
        found = self.longest(tokens)
        assert self.snapshots.length(tokens) == (len(found[0]) if found else 0)

    @rule(budget=BUDGETS)
    def resize(self, budget: int) -> None:
        self.snapshots.resize(budget)
        self.budget = budget
        self.trim()

    @invariant()
    def it_holds_what_the_plain_one_does(self) -> None:
        assert self.snapshots.held == sum(len(state) for _, state in self.kept) <= self.snapshots.budget == self.budget
        assert self.snapshots.tokens == sum(len(tokens) for tokens, _ in self.kept)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


def test_a_part_of_a_state_is_no_match() -> None:
    snapshots = Snapshots(100)
    snapshots.insert([1, 2, 3], 0, b"abc")
    assert snapshots.match([1, 2]) == []
    assert snapshots.match([1, 2, 4, 5]) == []
    assert snapshots.match([1, 2, 3, 4]) == [Piece(b"abc", 0, 3)]


def test_a_budget_of_nothing_keeps_nothing() -> None:
    snapshots = Snapshots(0)
    snapshots.insert([1, 2, 3], 0, b"abc")
    assert (snapshots.held, snapshots.length([1, 2, 3])) == (0, 0)
