"""The prefix tree against a plain model of it: a list of what was kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from offgridd.engine.prefix import Tree, common

TOKENS = st.lists(st.integers(0, 2), max_size=12)


def state_of(tokens: list[int], start: int) -> bytes:
    """A state that can be checked: the whole prefix for each position that it stands for."""
    return repr([tokens[: i + 1] for i in range(start, len(tokens))]).encode()


class Keeping(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree(1 << 30)
        self.kept: list[list[int]] = []

    @rule(tokens=TOKENS)
    def keep(self, tokens: list[int]) -> None:
        start = self.tree.length(tokens)
        assert start == max((common(tokens, k) for k in self.kept), default=0), "the longest, to the token"
        if start < len(tokens):
            self.tree.insert(tokens, start, state_of(tokens, start))
            self.kept.append(tokens)

    @rule(tokens=TOKENS)
    def use(self, tokens: list[int]) -> None:
        at = 0
        for state, start, stop in self.tree.match(tokens):
            assert start == at < stop
            prefixes = eval(state)
            first = len(prefixes[0]) - 1
            assert [prefixes[i - first] for i in range(start, stop)] == [tokens[: i + 1] for i in range(start, stop)]
            at = stop
        assert at == self.tree.length(tokens)

    @invariant()
    def nothing_is_kept_twice(self) -> None:
        assert self.tree.tokens == len({tuple(k[: i + 1]) for k in self.kept for i in range(len(k))})


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(TOKENS.filter(bool), max_size=30), st.integers(0, 400))
def test_the_budget_holds_and_what_was_just_used_stays(all_tokens: list[list[int]], budget: int) -> None:
    tree = Tree(budget)
    for tokens in all_tokens:
        start = tree.length(tokens)
        if start < len(tokens):
            state = state_of(tokens, start)
            tree.insert(tokens, start, state)
            assert tree.held <= budget
            if len(state) + sum(len(p.state) for p in tree.match(tokens[:start])) <= budget:
                assert tree.length(tokens) == len(tokens), "the newest leaf is the last to go"
    tree.resize(0)
    assert (tree.held, len(tree), tree.tokens) == (0, 0, 0)


def test_the_leaf_that_was_used_longest_ago_goes_first() -> None:
    tree = Tree(35)
    for first in (1, 2, 3):
        tree.insert([0, first], tree.length([0, first]), bytes(10))
    tree.match([0, 1])
    tree.insert([0, 4], 1, bytes(10))
    assert [tree.length([0, i]) for i in (1, 2, 3, 4)] == [2, 1, 2, 2]


def test_a_shared_half_outlives_the_other() -> None:
    tree = Tree(25)
    tree.insert([1, 2, 3, 4], 0, bytes(20))
    tree.insert([1, 2, 9], 2, bytes(5))
    tree.match([1, 2, 9])
    tree.resize(24)
    assert tree.length([1, 2, 3, 4]) == 2
    assert tree.length([1, 2, 9]) == 3 or tree.held <= 24


@given(TOKENS, TOKENS)
def test_common(one: list[int], other: list[int]) -> None:
    wanted = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common(one, other) == wanted
