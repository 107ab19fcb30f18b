"""What decides how much memory a model takes, as its header says. Read by `effects.gguf`, judged by `core.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Matrix:
    """Bytes of one ggml type: of the tensors that are multiplied with, and of the embedding."""

    multiplied: int = 0
    embedding: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers of a header by the end of their keys, such as `attention.key_length`; what is not there is missing.

    A number of each layer is a tuple. `odd` names what has another form than it should: nothing follows from it.
    """

    numbers: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    odd: tuple[str, ...] = ()
    merges: int = 0  # of the tokenizer
    matrices: Mapping[int, Matrix] = field(default_factory=dict)  # by ggml type; rows that divide by 8 alone
    own_output: bool = True  # False: the embedding is multiplied with, too
    classifier: bool = False  # it has what makes a score of a text

    def one(self, key: str) -> int | None:
        """A number; the largest where each layer has its own; None where it is missing."""
        found = self.numbers.get(key)
        return max(found, default=0) if isinstance(found, tuple) else found

    def layers(self, key: str, count: int) -> tuple[int, ...] | None:
        """A number for each of `count` layers; None where it is missing or there are fewer."""
        found = self.numbers.get(key)
        if isinstance(found, int):
            return (found,) * count
        return found[:count] if found is not None and len(found) >= count else None
