"""Whose turn it is among sets of adapters: a decode is computed with one set, and another one costs time. Pure.

A set has some steps in turn, so that changing is rare, and few or short ones, so that no stream stands still for long.
All sets have as many steps, and so all streams as many tokens, however many share theirs.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

STEPS, SECONDS = 4, 0.1  # of one turn, whichever comes first


@dataclass(slots=True)
class Turns:
    _now: int = 0  # the set whose turn it is
    _steps: int = 0
    _seconds: float = 0.0
    _order: dict[int, None] = field(default_factory=dict)  # sets that want turns, whose last one is longest ago first

    def take(self, wanting: Set[int]) -> int:
        """The set of the next step, one of `wanting`; 0 where that is empty."""
        for one in sorted(wanting - self._order.keys()):
            self._order[one] = None
        for one in self._order.keys() - wanting:
            del self._order[one]
        over = self._steps >= STEPS or self._seconds >= SECONDS
        if self._now not in wanting or (over and len(wanting) > 1):
            others = [one for one in self._order if one != self._now]
            self._now = others[0] if others else 0
            self._steps, self._seconds = 0, 0.0
        if self._now in self._order:
            self._order[self._now] = self._order.pop(self._now)
        self._steps += 1
        return self._now

    def took(self, seconds: float) -> None:
        """A decode of this step."""
        self._seconds += seconds
