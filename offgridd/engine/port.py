"""What the engine's loop asks of a model: `llama` is the real one, `fake` the one of tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from offgridd.engine.adapters import Adapter
from offgridd.engine.prefix import Piece
from offgridd.engine.sampling import Chain, Row, Table
from offgridd.engine.vectors import Floats
from offgridd.engine.wire import Built, SamplingParams


class LoadError(Exception):
    """No model or context came of the file. `reason` is the condition's."""

    def __init__(self, text: str, reason: str = "LoadFailed") -> None:
        super().__init__(text)
        self.reason = reason


class Memory(Enum):
    """What can be done with the state of a sequence."""

    SHARED = "one buffer"  # cells of all sequences in one: a beginning is shared by reference
    APART = "a buffer each"  # beginnings are copied
    WHOLE = "whole states"  # saved and restored whole, never cut: recurrent, hybrid, sliding window


class OutOfCells(Exception):
    """No room in the cache for this decode; nothing was applied."""


class Aborted(Exception):
    """The abort flag stopped the decode."""


class Vocabulary(Protocol):
    size: int  # tokens
    longest: int  # bytes of the longest token

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; without `special` no text becomes a control token. BOS is never added."""

    def document(self, text: str) -> list[int]:
        """Token ids of a text by itself: where the model wants BOS before one, it is there."""

    def least(self, text: str) -> int:
        """How many tokens a text has at least, told without reading it."""

    def pair(self, query: list[int], document: list[int]) -> list[int]:
        """Both behind each other, with the tokens before, between and after them that the model wants."""

    def edges(self) -> tuple[int | None, bool]:
        """BOS where the model wants it before a text, and whether it wants a token behind one, too."""

    def piece(self, token: int, *, special: bool = False) -> bytes: ...
    def is_end(self, token: int) -> bool: ...
    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        """Texts of the control tokens, and which of them strip the text beside (1 left, 2 right)."""

    def grammar_tokenizer(self) -> Any:
        """llguidance's tokenizer of this vocabulary, None where there is none. Takes up to a second or two."""

    def names(self) -> Mapping[str, str]:
        """The variables that chat templates use for special tokens."""


class Part(NamedTuple):
    """Rows of one sequence in a decode: `tokens` at `start`.. of sequence `slot`.

    `logits`: what the last one gives is wanted; `every`: what each of them gives.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    logits: bool
    every: bool = False


class Passage(NamedTuple):
    """Rows of one input in a decode of an encoder: `tokens` at `start`.. of sequence `slot`; `last`: they end it."""

    slot: int
    start: int
    tokens: Sequence[int]
    last: bool


class Encoder(Protocol):
    """A model that makes one vector, or a score, of a text. Only `abort` may be called from another thread."""

    context: int  # most tokens of an input
    cells: int  # tokens that it can hold between decodes; 0 = none
    slots: int  # inputs of one decode; one more sequence is there where it `splits`
    splits: bool  # an input may be computed in pieces; else each decode has all of it
    pooling: str  # mean | cls | last | rank
    vector: int  # numbers in one vector; 1 for rank

    @property
    def vocab(self) -> Vocabulary: ...
    @property
    def built(self) -> Built: ...
    def template(self) -> str | None:
        """How a reranker's file wants a query and a document put together, where it says that."""

    def use_threads(self, count: int) -> None: ...
    def abort(self) -> None: ...
    def arm(self) -> None: ...
    def encode(self, passages: Sequence[Passage]) -> Sequence[Floats | None]:
        """The vectors of those that end their inputs, which it then holds nothing of. Raises Aborted: `drop` them."""

    def drop(self, slot: int) -> None:
        """Forgets what was computed of an input."""


class Model(Protocol):
    """One model with one context. Only `abort` may be called from another thread."""

    context: int  # tokens that one request may use
    cells: int  # tokens that all sequences may hold together
    slots: int  # sequences at once
    memory: Memory
    chunk: int  # most rows of one decode
    cache_types: tuple[str, str]  # of keys and values

    @property
    def adapters(self) -> Sequence[Adapter]:
        """Those that are loaded beside it."""

    @property
    def vocab(self) -> Vocabulary: ...
    @property
    def built(self) -> Built: ...
    def template(self) -> str | None:
        """The chat template in the file."""

    def use_threads(self, count: int) -> None:
        """From the next decode on."""

    def abort(self) -> None:
        """Stops the present decode at its next graph node."""

    def arm(self) -> None:
        """Takes back an abort that came too late or was meant for another request."""

    def wear(self, adapters: int) -> None:
        """Decodes are computed with this set of its adapters from now on."""

    def decode(self, parts: Sequence[Part]) -> None:
        """Computes the parts, at most `chunk` rows. Raises OutOfCells (nothing was applied) or Aborted (`cut` them)."""

    def cut(self, slot: int, length: int) -> None:
        """Cuts a sequence to its first `length` tokens; 0 empties it. Only that where the memory is WHOLE."""

    def share(self, giver: int, taker: int, length: int) -> None:
        """The taker, which is empty, has the giver's first `length` tokens too. Not where the memory is WHOLE."""

    def save(self, slot: int, start: int, stop: int) -> bytes:
        """The state of a sequence's positions from `start` to `stop`; of all of them where the memory is WHOLE."""

    def restore(self, slot: int, pieces: Sequence[Piece]) -> None:
        """Puts saved states, one behind the other, into an empty sequence. Raises OutOfCells: it may hold some then."""

    def logits(self, part: int, back: int = 0) -> Row:
        """What that part of the newest decode gave, to be changed at will; good until the next decode.

        `back`: rows before its last one, of a part with `every`.
        """

    def table(self) -> Table:
        """What each row of the newest decode gave, which was of one part with `every`; good until the next decode."""

    def chain(self, params: SamplingParams) -> Chain: ...
