"""Guesses at what comes next, to be checked in one decode: from what the sequence itself has said, or from a draft.

A decode of several rows takes less time than as many decodes of one, so a guess that holds is time won, and one that
does not is time lost. How many tokens to guess follows from how often guesses of this sequence held and from how long
decodes of so many rows took here; what guesses may lose is bounded by a share of what was generated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from offgridd.engine.drafting import Drafter, Step
from offgridd.engine.record import FIRST, Account, Clock, expected, seen
from offgridd.engine.sequence import Sequence

MOST = 16  # tokens of a guess
LONG, SHORT = 6, 3  # tokens that have to be alike before a guess: of a sequence without and with a record
TRUST = 0.7  # share of a sequence's guesses that held, from which on it has a record


@dataclass(slots=True)
class _Record:
    """Of one sequence."""

    account: Account = field(default_factory=Account)
    seen: int = 0  # tokens that are in the index
    index: dict[tuple[int, ...], int] = field(default_factory=dict)  # where some tokens stood last, behind them
    held: float = FIRST  # chance that a guessed token holds
    proven: bool = False
    drafted: bool = False  # its newest guess is the draft's

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


class Speculator:
    """`lookup`: guesses from what was said; `drafter`: guesses of a draft, where there is none of those."""

    def __init__(self, drafter: Drafter | None = None, *, lookup: bool = True) -> None:
        self._records: dict[int, _Record] = {}
        self._drafter, self._lookup = drafter, lookup
        self.clock = Clock()

    def use_threads(self, count: int) -> None:
        if self._drafter is not None:
            self._drafter.use_threads(count)

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
            record = self._records[s.id]
            for k in range(1, len(guess) + 1):
                seconds = self.clock.of(rows + k)
                assert seconds is not None
                gain = gained + expected(record.held, k)
                if gain / seconds > best and (seconds - plain) / plain <= record.account.may_lose():
                    best, count = gain / seconds, k
            if count:
                made[s.id] = guess[:count]
                rows, room = rows + count, room - count
                gained += expected(record.held, count)
        return {**made, **self._drafts(waiting, made, Step(self.clock, len(waiting), rows, gained, room))}

    def _drafts(self, waiting: list[Sequence], made: Mapping[int, list[int]], step: Step) -> Mapping[int, list[int]]:
        """Of those that have no other guess, but for what the daemon asks by itself."""
        if self._drafter is None:
            return {}
        asked = [(s, self._records[s.id].account) for s in waiting if s.id not in made and s.kept]
        drafted = self._drafter.guesses(asked, step)
        for s in waiting:
            self._records[s.id].drafted = s.id in drafted
        return drafted

    def _guess(self, s: Sequence, most: int) -> list[int]:
        record = self._records.setdefault(s.id, _Record())
        if not self._lookup:
            return []
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
        account = record.account
        account.steps += 1 + held
        if not guessed:
            return
        if record.drafted and self._drafter is not None:
            self._drafter.checked(s.id, guessed, held)
        else:
            record.held, record.proven = seen(record.held, guessed, held), True
        plain, took = self.clock.of(1), self.clock.of(1 + guessed)
        if plain and took:
            account.lost += (took - plain * (1 + held)) / plain

    def forget(self, request: int) -> None:
        record = self._records.pop(request, None)
        if record is not None and self._drafter is not None:
            self._drafter.forget(request, record.account)
