"""The draft: a small model beside the one that answers, which says quickly what may come next.

Its cache follows sequences by what they say, not by where they are: slots of its own, cut back to what is alike and
computed again from there. So nothing that happens to a sequence elsewhere can make it wrong, only late.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from offgridd.engine.port import Model, OutOfCells, Part, Vocabulary
from offgridd.engine.prefix import common
from offgridd.engine.record import Clock
from offgridd.engine.sequence import Sequence

PADDING = 128  # tokens that one of two vocabularies may have more at its end: files are padded to round sizes
MANY = 16  # rows from which a decode takes as long as its rows do
PIECE = 0.1  # seconds that one reading may take: the sequences wait for their next tokens


@dataclass(slots=True)
class _Held:
    """One slot: the tokens in the cache, how many of them are known to be its owner's, and who that is."""

    tokens: list[int] = field(default_factory=list)
    sure: int = 0
    owner: int | None = None


class Draft:
    """`known`: tokens below are the same in both vocabularies; `now` measures its decodes, in seconds."""

    def __init__(self, model: Model, known: int, now: Callable[[], float] = time.monotonic) -> None:
        self._model, self._known, self._now = model, known, now
        self._slots = [_Held() for _ in range(model.slots)]
        self._clock, self._row = Clock(), 0.0
        self.chunk = model.chunk  # most tokens that it computes at once
        self._measure()

    def _measure(self) -> None:
        """Of each the second one counts: the first one fetches the weights."""
        for rows in (min(MANY, self._model.context), 1):
            for again in (False, True):
                began = self._now()
                self._model.decode([Part(0, 0, [0] * rows, True)])
                if again:
                    self._took(rows, self._now() - began)
                self._model.cut(0, 0)

    def use_threads(self, count: int) -> None:
        self._model.use_threads(count)

    def follow(self, sequences: Items[Sequence]) -> None:
        """Each has a slot from now on; whoever is not among them may lose his."""
        wanted = {s.id for s in sequences}
        owners = {held.owner for held in self._slots}
        for s in sequences:
            if s.id not in owners:
                free = [held for held in self._slots if held.owner not in wanted]
                best = max(free, key=lambda held: common(held.tokens, s.tokens))
                best.owner, best.sure = s.id, 0

    def forget(self, request: int) -> None:
        """It has ended. What is there of it may begin another one."""
        for held in self._slots:
            if held.owner == request:
                held.owner = None

    def missing(self, s: Sequence) -> int | None:
        """Tokens of it to be computed before the next guess; None where that can not be."""
        slot, held = self._of(s)
        alike, tokens = held.sure, held.tokens
        while alike < min(len(tokens), len(s.tokens) - 1) and tokens[alike] == s.tokens[alike]:
            alike += 1
        held.sure = alike
        if len(tokens) > alike:
            del tokens[alike:]
            self._model.cut(slot, alike)
        fits = len(s.tokens) < self._model.context
        return len(s.tokens) - alike if fits and max(s.tokens[alike:]) < self._known else None

    def room(self, s: Sequence) -> int:
        """Tokens that it may guess of it at most."""
        return self._model.context - len(s.tokens)

    def reading(self, tokens: int) -> float:
        """Seconds to compute so many tokens."""
        return tokens * self._row if tokens >= MANY else self._clock.of(tokens) or 0.0

    def guessing(self, missing: int, sequences: int, count: int) -> float:
        """Seconds to guess so many tokens of so many sequences, which lack so many together."""
        return self.reading(missing) + (count - 1) * self.reading(sequences)

    def read(self, s: Sequence, keep: int = 1) -> float:
        """Computes the next piece of what is missing, but for the last tokens; says how many seconds that took."""
        slot, held = self._of(s)
        at = len(held.tokens)
        most = min(self.chunk, max(MANY, int(PIECE / self._row) if self._row else MANY))
        part = Part(slot, at, s.tokens[at : min(at + most, len(s.tokens) - keep)], False)
        return self._decode([part])[1]

    def guess(self, sequences: Items[Sequence], count: int) -> tuple[dict[int, list[int]], float]:
        """The likeliest next tokens of each, by its number, at most so many; and how many seconds that took."""
        made: dict[int, list[int]] = {s.id: [] for s in sequences}
        going, total = list(sequences), 0.0
        while going:
            done, seconds = self._decode([self._next(s, made[s.id]) for s in going])
            total += seconds
            if not done:
                break
            began, left = self._now(), list[Sequence]()
            for part, s in enumerate(going):
                token = int(self._model.logits(part).argmax())
                if token < self._known:
                    made[s.id].append(token)
                    left += [s] if len(made[s.id]) < count else []
            going, total = left, total + self._now() - began
        return made, total

    def _next(self, s: Sequence, made: list[int]) -> Part:
        slot, held = self._of(s)
        at = len(held.tokens)
        return Part(slot, at, made[-1:] if made else s.tokens[at:], True)

    def _of(self, s: Sequence) -> tuple[int, _Held]:
        return next((slot, held) for slot, held in enumerate(self._slots) if held.owner == s.id)

    def _decode(self, parts: list[Part]) -> tuple[bool, float]:
        """False: there are not cells enough, and some are free now."""
        began = self._now()
        try:
            self._model.decode(parts)
        except OutOfCells:
            self._make_room({part.slot for part in parts})
            return False, self._now() - began
        seconds = self._now() - began
        for part in parts:
            self._slots[part.slot].tokens += part.tokens
        self._took(sum(len(part.tokens) for part in parts), seconds)
        return True, seconds

    def _took(self, rows: int, seconds: float) -> None:
        if rows < MANY:
            self._clock.took(rows, seconds)
        else:
            self._row = seconds / rows if not self._row else 0.75 * self._row + 0.25 * seconds / rows

    def _make_room(self, needed: set[int]) -> None:
        """Empties the slots that nobody needs now, or all of them."""
        idle = [slot for slot, held in enumerate(self._slots) if held.tokens and slot not in needed]
        for slot in idle or range(len(self._slots)):
            self._model.cut(slot, 0)
            self._slots[slot].tokens, self._slots[slot].sure = [], 0


def difference(mine: Vocabulary, other: Vocabulary) -> str:
    """Why the tokens of the draft's vocabulary are not those of the `other` one; "" where they are."""
    if abs(mine.size - other.size) > PADDING:
        return f"it has {mine.size} tokens, and the model has {other.size}"
    for token in range(min(mine.size, other.size)):
        ours, theirs = mine.piece(token, special=True), other.piece(token, special=True)
        if ours != theirs:
            return f"its token {token} is {ours!r}, and the model's is {theirs!r}"
    if mine.controls()[0] != other.controls()[0] or mine.names() != other.names():
        return "its control tokens are others than the model's"
    return ""
