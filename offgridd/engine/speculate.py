"""Guesses at what comes next, to be checked in one decode: taken from what the sequence itself has said. Pure.

A decode of several rows takes less time than as many decodes of one, so a guess that holds is time won, and one that
does not is time lost. How many tokens to guess follows from how often guesses of this sequence held and from how long
decodes of so many rows took here; what guesses may lose is bounded by a share of what was generated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from offgridd.engine.sequence import Sequence

MOST = 16  # tokens of a guess
LONG, SHORT = 6, 3  # tokens that have to be alike before a guess: of a sequence without and with a record
TRUST = 0.7  # share of a sequence's guesses that held, from which on it has a record
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
            each = self._seconds[min(self._seconds)] / min(self._seconds) * PRIOR
            return low + each * (rows - below)
        return low + (self._seconds[above] - low) * (rows - below) / (above - below)


@dataclass(slots=True)
class _Record:
    """Of one sequence."""

    seen: int = 0  # tokens that are in the index
    index: dict[tuple[int, ...], int] = field(default_factory=dict)  # where some tokens stood last, behind them
    held: float = FIRST  # chance that a guessed token holds
    proven: bool = False
    steps: int = 0
    lost: float = 0.0  # plain steps; below 0 they are won

    def learn(self, tokens: list[int]) -> None:
        """What is behind the last token is not known yet."""
        for end in range(max(self.seen, SHORT), len(tokens)):
            self.index[tuple(tokens[end - SHORT : end])] = end
            if end >= LONG:
                self.index[tuple(tokens[end - LONG : end])] = end
        self.seen = len(tokens)

    def find(self, tokens: list[int]) -> int | None:
        """Where what came last stood before, behind it."""
        found = self.index.get(tuple(tokens[-LONG:])) if len(tokens) > LONG else None
        if found is None and self.proven and self.held >= TRUST:
            found = self.index.get(tuple(tokens[-SHORT:]))
        return found

    def may_lose(self) -> float:
        return GRANT + SHARE * self.steps - self.lost


class Speculator:
    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self.clock = Clock()

    def guesses(self, sequences: Iterable[Sequence], room: int) -> Mapping[int, list[int]]:
        """Of each sequence that is to have any, by its number; all together at most `room` tokens."""
        waiting = list(sequences)
        rows, gained = len(waiting), float(len(waiting))
        made: dict[int, list[int]] = {}
        plain = self.clock.of(rows)
        if plain is None:
            return made
        for s in waiting:
            guess = self._guess(s, min(room, MOST, s.limit - (len(s.tokens) - s.prompt) - 1))
            best, count = gained / (self.clock.of(rows) or plain), 0
            chance = self._records[s.id].held
            for k in range(1, len(guess) + 1):
                seconds = self.clock.of(rows + k)
                assert seconds is not None
                gain = gained + chance * (1 - chance**k) / (1 - chance)
                if gain / seconds > best and (seconds - plain) / plain <= self._records[s.id].may_lose():
                    best, count = gain / seconds, k
            if count:
                made[s.id] = guess[:count]
                rows, room = rows + count, room - count
                gained += chance * (1 - chance**count) / (1 - chance)
        return made

    def _guess(self, s: Sequence, most: int) -> list[int]:
        record = self._records.setdefault(s.id, _Record())
        record.learn(s.tokens)
        at = record.find(s.tokens) if most > 0 else None
        return s.tokens[at : at + most] if at is not None else []

    def took(self, rows: int, seconds: float) -> None:
        """A decode of a token of each sequence and what was guessed, so many rows in all."""
        self.clock.took(rows, seconds)

    def checked(self, s: Sequence, guessed: int, held: int) -> None:
        """So many of the guessed tokens were chosen; one more token was made in any case."""
        record = self._records.get(s.id)
        if record is None:
            return
        record.steps += 1 + held
        if not guessed:
            return
        for one in [1.0] * held + [0.0] * (held < guessed):
            record.held = min(CERTAIN, MEMORY * record.held + (1 - MEMORY) * one)
        record.proven = True
        plain, took = self.clock.of(1), self.clock.of(1 + guessed)
        if plain and took:
            record.lost += (took - plain * (1 + held)) / plain

    def forget(self, request: int) -> None:
        self._records.pop(request, None)
