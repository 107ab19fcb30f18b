"""A request inside the engine, and what is computed of it at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass

TOKEN = 32  # bits of a key that are the token


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside the engine. `tokens` is prompt and answer; the first `done` of them are in the cache."""

    id: int
    client: str
    tokens: list[int]
    prompt: int  # how many of `tokens` are the prompt
    limit: int  # most tokens of answer
    done: int = 0
    slot: int = -1  # the library's sequence id, -1 while it waits
    leader: Sequence | None = None  # whose prompt begins alike: it waits until that one has computed `share` tokens
    share: int = 0
    coming: bool = False  # its beginning is being read from disk: it waits until that is there, or known not to come
    cached: int = 0  # tokens of the prompt that were not computed for it
    kept: bool = True  # whether what is computed of it may serve others later; else it has nothing of others either
    adapters: int = 0  # the set it is computed with, from token `switch` on; before it: with none
    switch: int = 0

    @property
    def waits(self) -> bool:
        """Whether nothing can be computed of it now."""
        return self.leader is not None or self.coming

    @property
    def left(self) -> int:
        """Tokens that are not in the cache: 1 while it runs, more while its prompt is computed."""
        return len(self.tokens) - self.done

    @property
    def wears(self) -> int:
        """The adapters that its next token is computed with."""
        return self.adapters if self.done >= self.switch else 0

    @property
    def stretch(self) -> int:
        """Tokens that are not in the cache and computed with the same adapters as the next one."""
        return self.left if self.done >= self.switch else min(self.left, self.switch - self.done)

    def keys(self, count: int | None = None) -> list[int]:
        """Of all its tokens, or the first so many: each with its adapters. Where keys are alike, so are states."""
        if not self.adapters:
            return self.tokens if count is None else self.tokens[:count]
        tag = self.adapters << TOKEN
        tokens = self.tokens[:count]
        return [*tokens[: self.switch], *(tag | token for token in tokens[self.switch :])]

    def waits_for(self, other: Sequence) -> bool:
        """Whether it is `other`, or follows it over however many leaders."""
        return self is other or (self.leader is not None and self.leader.waits_for(other))

    def __repr__(self) -> str:
        return f"Sequence({self.id}, slot {self.slot}, {self.done}/{len(self.tokens)} of which prompt {self.prompt})"


@dataclass(frozen=True, slots=True)
class Rows:
    """Part of a decode: the next `count` tokens of a sequence; `sample`: they reach its end, logits are wanted.

    `guess`: what may come behind them, whose logits are wanted, too; it is no part of the sequence yet.
    """

    sequence: Sequence
    start: int
    count: int
    sample: bool
    guess: tuple[int, ...] = ()

    @property
    def tokens(self) -> list[int]:
        return [*self.sequence.tokens[self.start : self.start + self.count], *self.guess]


@dataclass(frozen=True, slots=True)
class Decode:
    """What the library computes at once. `prompt`: it holds prompt rows, and none of running sequences."""

    rows: tuple[Rows, ...]
    prompt: bool
    adapters: int = 0  # what all of it is computed with

    def __len__(self) -> int:
        return sum(r.count + len(r.guess) for r in self.rows)
