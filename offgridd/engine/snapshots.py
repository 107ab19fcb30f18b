"""Finished prefixes whose states can not be taken apart, as those of recurrent and sliding-window models. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from offgridd.engine.prefix import Piece


class Snapshots:
    """`budget` and `held` are in bytes, of states alone. Past the budget the one not used for longest goes first."""

    def __init__(self, budget: int) -> None:
        self.budget, self.held = budget, 0
        self._kept: OrderedDict[tuple[int, ...], bytes] = OrderedDict()

    @property
    def tokens(self) -> int:
        """Tokens that are kept; what several states hold counts in each."""
        return sum(map(len, self._kept))

    def length(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are kept. Counts as no use."""
        return max((self._usable(kept, tokens) for kept in self._kept), default=0)

    def match(self, tokens: Sequence[int]) -> list[Piece]:
        """The state that stands for as many of the first tokens as possible."""
        best = max(self._kept, key=lambda kept: self._usable(kept, tokens), default=None)
        if best is None or not (length := self._usable(best, tokens)):
            return []
        self._kept.move_to_end(best)
        return [Piece(self._kept[best], 0, length)]

    def insert(self, tokens: Sequence[int], _start: int, state: bytes) -> None:
        """Keeps `state`, of all the tokens."""
        if len(state) > self.budget:
            return
        self._drop(tuple(tokens))
        self._kept[tuple(tokens)] = state
        self.held += len(state)
        self.resize(self.budget)

    def resize(self, budget: int) -> None:
        self.budget = budget
        while self.held > budget:
            self._drop(next(iter(self._kept)))

    def _usable(self, kept: tuple[int, ...], tokens: Sequence[int]) -> int:
        return len(kept) if kept == tuple(tokens[: len(kept)]) else 0

    def _drop(self, kept: tuple[int, ...]) -> None:
        state = self._kept.pop(kept, None)
        if state is not None:
            self.held -= len(state)
