"""What was seen of guesses so far: how long decodes take, and what the guesses of one sequence have lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

GRANT, SHARE = 3.0, 0.012  # plain steps that a sequence's guesses may lose at first, and per step that it made
MEMORY = 0.85  # of the newest guess in the record; and of the newest time of a decode
CERTAIN = 0.98  # no chance is taken to be better
FIRST = 0.8  # chance that a guessed token holds, before there is a record
PRIOR = 0.42  # of a plain step, that each further row of a decode takes, before it was measured


class Clock:
    """How long decodes of so many rows take, in seconds, as far as was measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def took(self, rows: int, seconds: float) -> None:
        before = self._seconds.get(rows, seconds)
        self._seconds[rows] = MEMORY * before + (1 - MEMORY) * min(seconds, 4 * before)  # one may have been held up

    def of(self, rows: int) -> float | None:
        """None where nothing was measured."""
        if rows in self._seconds or not self._seconds:
            return self._seconds.get(rows)
        below = max((n for n in self._seconds if n < rows), default=None)
        above = min((n for n in self._seconds if n > rows), default=None)
        if below is None:
            assert above is not None
            return self._seconds[above] * rows / above
        low = self._seconds[below]
        if above is None:
            return low + self._each(below) * (rows - below)
        return low + (self._seconds[above] - low) * (rows - below) / (above - below)

    def _each(self, most: int) -> float:
        """What each row takes beyond the most that were measured: no more than is usual, and less where that showed."""
        least = min(self._seconds)
        usual = self._seconds[least] / least * PRIOR
        if most == least:
            return usual
        slope = (self._seconds[most] - self._seconds[least]) / (most - least)
        return max(usual / 4, min(usual, slope))


@dataclass(slots=True)
class Account:
    """Of one sequence: what its guesses may lose yet, in plain steps."""

    steps: int = 0
    lost: float = 0.0  # below 0 they are won

    def may_lose(self) -> float:
        return GRANT + SHARE * self.steps - self.lost


def seen(chance: float, guessed: int, held: int) -> float:
    """The chance that a guessed token holds, once so many of so many more did."""
    for one in [1.0] * held + [0.0] * (held < guessed):
        chance = min(CERTAIN, MEMORY * chance + (1 - MEMORY) * one)
    return chance


def expected(chance: float, count: int) -> float:
    """How many of so many guessed tokens hold, each where all before it do."""
    return chance * (1 - chance**count) / (1 - chance)
