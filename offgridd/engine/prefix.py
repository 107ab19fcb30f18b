"""The tree of finished prefixes, kept in host memory: which tokens, and the state that stands for them. Pure.

Each node holds the tokens between its parent's end and its own, and the state of exactly those; no token's state is
kept twice. Where a new sequence parts from a node half-way the node is split, and both halves refer to the one state.
Past the budget the leaf that was not used for longest goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(eq=False, slots=True)
class Blob:
    """A saved state. `nodes` refer to it."""

    state: bytes
    nodes: int = 0


class Piece(NamedTuple):
    """Positions `start` to `stop` of a state."""

    state: bytes
    start: int
    stop: int


@dataclass(eq=False, slots=True)
class Node:
    start: int
    tokens: list[int]
    blob: Blob | None  # None in the root alone
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)  # by their first token
    used: int = 0  # the tree's count of uses when it was used last

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)


class Tree:
    """`budget` and `held` are in bytes, of states alone; a budget of 0 keeps nothing."""

    def __init__(self, budget: int) -> None:
        self.budget, self.held = budget, 0
        self._root, self._uses = Node(0, [], None, None), 0

    def __len__(self) -> int:
        """Nodes."""
        return sum(1 for _ in self._nodes())

    @property
    def tokens(self) -> int:
        """Tokens that are kept."""
        return sum(len(node.tokens) for node in self._nodes())

    def length(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are kept. Counts as no use."""
        return self._walk(tokens)[1]

    def match(self, tokens: Sequence[int]) -> list[Piece]:
        """The states that stand for as many of the first tokens as possible, one behind the other."""
        node, length = self._walk(tokens)
        self._uses += 1
        pieces: list[Piece] = []
        while node.parent is not None:
            node.used = self._uses
            assert node.blob is not None
            pieces.append(Piece(node.blob.state, node.start, min(node.stop, length)))
            node = node.parent
        return pieces[::-1]

    def insert(self, tokens: Sequence[int], start: int, state: bytes) -> None:
        """Keeps `state`, of the positions from `start` to the end; `start` must be what `length` says of the tokens."""
        node, length = self._walk(tokens)
        if length != start or length == len(tokens):
            raise ValueError(f"cannot keep tokens from {start}: {length} of {len(tokens)} are kept already")
        if len(state) > self.budget:
            return
        if length < node.stop:
            node = self._split(node, length)
        self._uses += 1
        made = Node(start, list(tokens[start:]), Blob(state, 1), node, used=self._uses)
        node.children[made.tokens[0]] = made
        self.held += len(state)
        self._evict()

    def resize(self, budget: int) -> None:
        self.budget = budget
        self._evict()

    def _walk(self, tokens: Sequence[int]) -> tuple[Node, int]:
        """The last node on the way that has any of the tokens, and how many of them are kept."""
        node, at = self._root, 0
        while at < len(tokens) and (child := node.children.get(tokens[at])) is not None:
            same = common(child.tokens, tokens[at:])
            node, at = child, at + same
            if same < len(child.tokens):
                break
        return node, at

    def _split(self, node: Node, at: int) -> Node:
        """Makes two of a node; the upper one, which ends at `at`, is returned. Both refer to the state."""
        parent, cut = node.parent, at - node.start
        assert parent is not None
        assert node.blob is not None
        upper = Node(node.start, node.tokens[:cut], node.blob, parent, used=node.used)
        node.blob.nodes += 1
        parent.children[upper.tokens[0]] = upper
        node.parent, node.start, node.tokens = upper, at, node.tokens[cut:]
        upper.children[node.tokens[0]] = node
        return upper

    def _evict(self) -> None:
        while self.held > self.budget:
            leaf = min((n for n in self._nodes() if not n.children), key=lambda n: n.used)
            assert leaf.parent is not None
            assert leaf.blob is not None
            del leaf.parent.children[leaf.tokens[0]]
            leaf.blob.nodes -= 1
            if leaf.blob.nodes == 0:
                self.held -= len(leaf.blob.state)

    def _nodes(self) -> Iterator[Node]:
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many of the first items are the same. By halves: comparing slices costs a hundredth of a loop."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
