"""How much the draft guesses, and what it reads for that: as much as pays, within what guesses may lose.

All of its time counts as lost, until guesses that held have won it back. A long prompt takes more to read than one
answer may lose: that is paid from what the answers before have left, and only where guesses have been worth it.
"""

from __future__ import annotations

from typing import NamedTuple

from offgridd.engine.draft import Draft
from offgridd.engine.record import FIRST, GRANT, Account, Clock, expected, seen
from offgridd.engine.sequence import Sequence

MOST = 8  # tokens of a guess
FEW = 16  # tokens that may be missing for a guess to be made at once
SAVED = 40.0  # plain steps that answers leave to later ones at most
LEARN, FADE = 0.3, 0.02  # of a sequence in what is typical; and of the first assumption where it had no guesses
RISE = 0.01  # of the first assumption in the chance, at each step without a guess: text changes


class Step(NamedTuple):
    """The next decode without drafts: its seconds, its rows and the tokens that come of it; what there is room for."""

    clock: Clock
    sequences: int
    rows: int
    gained: float
    room: int

    @property
    def plain(self) -> float:
        """Seconds of a step without any guesses."""
        return self.clock.of(self.sequences) or 0.0


class _Case(NamedTuple):
    sequence: Sequence
    account: Account
    missing: int
    most: int


class _Record:
    """Of one sequence."""

    def __init__(self, chance: float) -> None:
        self.chance, self.guessed = chance, False


class Drafter:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._records: dict[int, _Record] = {}
        self._typical, self._saved = FIRST, 0.0

    def use_threads(self, count: int) -> None:
        self._draft.use_threads(count)

    def guesses(self, asked: list[tuple[Sequence, Account]], step: Step) -> dict[int, list[int]]:
        """Of each sequence that is to have any, by its number."""
        if not asked or not step.plain or step.room <= 0:
            return {}
        self._draft.follow([s for s, _ in asked])
        ready: list[_Case] = []
        for s, account in asked:
            self._records.setdefault(s.id, _Record(self._typical))
            missing, most = self._draft.missing(s), min(MOST, s.limit - (len(s.tokens) - s.prompt) - 1)
            case = _Case(s, account, missing or 0, min(most, self._draft.room(s)))
            if missing is None or case.most <= 0:
                continue
            if missing > FEW:
                self._read(case, step)
            elif sum(one.missing for one in ready) + missing <= self._draft.chunk:
                ready.append(case)
        # Reading may have taken the cells of those that were ready: then they are read again.
        ready = [case for case in ready if self._draft.missing(case.sequence) == case.missing]
        chosen, count, _ = self._best(ready, step)
        for case in ready:
            if case not in chosen:
                record = self._records[case.sequence.id]
                record.chance += RISE * (FIRST - record.chance)
        return self._made(chosen, count, step) if chosen else {}

    def checked(self, request: int, guessed: int, held: int) -> None:
        record = self._records[request]
        record.chance, record.guessed = seen(record.chance, guessed, held), True

    def forget(self, request: int, account: Account) -> None:
        """It has ended; what it has won, or was allowed to lose and has not, is left to others."""
        self._draft.forget(request)
        record = self._records.pop(request, None)
        if record is None:
            return
        chance, weight = (record.chance, LEARN) if record.guessed else (FIRST, FADE)
        self._typical += weight * (chance - self._typical)
        self._saved = max(0.0, min(SAVED, self._saved + account.may_lose() - GRANT))

    def _made(self, chosen: list[_Case], count: int, step: Step) -> dict[int, list[int]]:
        made, seconds = self._draft.guess([case.sequence for case in chosen], count)
        for case in chosen:
            case.account.lost += seconds / step.plain
        return {case.sequence.id: made[case.sequence.id][: case.most] for case in chosen if made[case.sequence.id]}

    def _best(self, cases: list[_Case], step: Step) -> tuple[list[_Case], int, float]:
        """Who has guesses, how many tokens, and how much faster that is; whoever might lose too much has none."""
        usual = step.clock.of(step.rows) or step.plain
        best: tuple[list[_Case], int, float] = ([], 0, 1.0)
        before = 0.0
        for count in range(1, MOST + 1):
            seconds = self._seconds(cases, count, step)
            group = [case for case in cases if (seconds - usual) / step.plain <= case.account.may_lose()]
            if not group or sum(min(count, case.most) for case in group) > step.room:
                break
            gained = step.gained
            for case in group:
                gained += expected(self._records[case.sequence.id].chance, min(count, case.most))
            seconds = seconds if len(group) == len(cases) else self._seconds(group, count, step)
            ratio = gained / seconds / (step.gained / usual)
            if ratio > best[2]:
                best = group, count, ratio
            elif ratio < before:
                break  # what each further token is worth only falls
            before = ratio
        return best

    def _seconds(self, cases: list[_Case], count: int, step: Step) -> float:
        """Of the step, with so many guesses."""
        rows = step.rows + sum(min(count, case.most) for case in cases)
        missing = sum(case.missing for case in cases)
        return (step.clock.of(rows) or 0.0) + self._draft.guessing(missing, len(cases), count)

    def _read(self, case: _Case, step: Step) -> None:
        """A piece of what is missing, where it may be lost and the rest of the answer can win it back."""
        s, account = case.sequence, case.account
        cost = self._draft.reading(case.missing) / step.plain
        afford = self._saved + account.may_lose() - GRANT / 2  # the rest is for the guesses
        _, _, ratio = self._best([case._replace(missing=1, account=Account())], step)
        left = s.limit - (len(s.tokens) - s.prompt)
        if cost > min(afford, left * (1 - 1 / ratio)):
            return
        took = self._draft.read(s) / step.plain
        saved = min(self._saved, took)
        self._saved -= saved
        account.lost += took - saved
