"""What the engine's loop asks of a model: `llama` is the real one, `fake` the one of tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from offgridd.engine.wire import SamplingParams


class LoadError(Exception):
    """No model or context came of the file."""


class OutOfCells(Exception):
    """No room in the cache for this decode; nothing was applied."""


class Aborted(Exception):
    """The abort flag stopped the decode."""


class Vocabulary(Protocol):
    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; without `special` no text becomes a control token. BOS is never added."""

    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        """Texts of the control tokens, and which of them strip the text beside (1 left, 2 right)."""

    def names(self) -> Mapping[str, str]:
        """The variables that chat templates use for special tokens."""


class Sampling(Protocol):
    def sample(self) -> int:
        """The next token, from the logits of the last decode."""

    def close(self) -> None: ...


class Model(Protocol):
    """One model with one context. Only `abort` may be called from another thread."""

    context: int  # tokens
    chunk: int  # most rows of one decode

    @property
    def vocab(self) -> Vocabulary: ...
    def template(self) -> str | None:
        """The chat template in the file."""

    def abort(self) -> None:
        """Stops the present decode at its next graph node."""

    def arm(self) -> None:
        """Takes back an abort that came too late or was meant for another request."""

    def clear(self) -> None: ...
    def keep(self, length: int) -> None:
        """Cuts the sequence to its first `length` tokens."""

    def decode(self, tokens: Sequence[int], start: int, *, logits: bool) -> None:
        """Computes `tokens` at `start`..; raises OutOfCells or Aborted, and then nothing of it counts."""

    def sampler(self, params: SamplingParams) -> Sampling: ...
