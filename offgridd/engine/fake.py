"""A worker without llama.cpp: `python -m offgridd.engine.fake FD PARENT`, chosen by OFFGRIDD_ENGINE=fake.

For tests and for benchmarks of everything around the engine. Each token of an answer is a letter that depends on all
tokens before it and on nothing else, so that a lost, doubled or foreign token shows in the text. It costs no time.
"""

from __future__ import annotations

import sys
import threading
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offgridd.engine.adapters import Adapter
from offgridd.engine.boot import confine, serve
from offgridd.engine.port import Aborted, Memory, OutOfCells, Part, Passage
from offgridd.engine.prefix import Piece
from offgridd.engine.sampling import Ids, Row, Table
from offgridd.engine.wire import Built, Load, SamplingParams

END = 256  # the one control token
VECTOR = 32  # numbers in a vector
_LETTERS = b"etaoin shrdlu cmfwyp vbgkjqxz"


class FakeVocab:
    """A token a byte, and one that ends."""

    size, longest = END + 1, 1

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def document(self, text: str) -> list[int]:
        return self.tokenize(text)

    def least(self, text: str) -> int:
        return len(text)

    def pair(self, query: list[int], document: list[int]) -> list[int]:
        return [*query, END, *document]

    def edges(self) -> tuple[None, bool]:
        return None, False

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return bytes([token]) if token != END else b"<|end|>" if special else b""

    def is_end(self, token: int) -> bool:
        return token == END

    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        return {"<|end|>": END}, {END: 0}

    def grammar_tokenizer(self) -> None:
        return None

    def names(self) -> dict[str, str]:
        return {"bos_token": "", "eos_token": "<|end|>"}


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """What one position holds: the checksum of all tokens up to it, and of what they were computed with."""

    checksum: int


class Fake:
    """Counts cells as the library does: those that sequences share count once."""

    chunk, cache_types = 512, ("f16", "f16")

    def __init__(
        self, context: int, slots: int = 1, cells: int | None = None, memory: Memory = Memory.SHARED,
        adapters: Sequence[Adapter] = (), other: int = 0,
    ) -> None:  # fmt: skip
        """`other`: models with another number here say something else."""
        self.adapters, self._wears = adapters, 0
        self.context, self.slots, self.cells, self.memory = context, slots, cells or context * slots, memory
        self.vocab, self._other = FakeVocab(), other
        self._cache: list[list[_Cell]] = [[] for _ in range(slots)]
        self._flag = threading.Event()
        self._rows: list[list[int] | None] = []  # for each part of the newest decode, the checksums that decide

    @property
    def built(self) -> Built:
        return Built(self.chunk)

    def template(self) -> str:
        return "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "

    def use_threads(self, count: int) -> None: ...

    def abort(self) -> None:
        self._flag.set()

    def arm(self) -> None:
        self._flag.clear()

    def wear(self, adapters: int) -> None:
        self._wears = adapters

    def decode(self, parts: Sequence[Part]) -> None:
        rows = sum(len(part.tokens) for part in parts)
        if rows > self.chunk:
            raise ValueError(f"cannot decode {rows} rows: {self.chunk} is the most")
        self._need(rows)
        if self._flag.is_set():
            raise Aborted
        self._rows = [self._extend(part) for part in parts]

    def _need(self, cells: int) -> None:
        if sum(map(len, self._cache)) + cells <= self.cells:
            return  # as if nothing were shared: counting takes time
        if len({id(cell) for cache in self._cache for cell in cache}) + cells > self.cells:
            raise OutOfCells

    def _extend(self, part: Part) -> list[int] | None:
        cache = self._cache[part.slot]
        if part.start != len(cache):
            raise ValueError(f"cannot decode at {part.start}: sequence {part.slot} holds {len(cache)} tokens")
        for token in part.tokens:
            before = cache[-1].checksum if cache else 0
            cache.append(_Cell(zlib.crc32(token.to_bytes(2, "little"), before ^ self._wears)))
        if part.every:
            return [cell.checksum for cell in cache[part.start :]]
        return [cache[-1].checksum] if part.logits else None

    def cut(self, slot: int, length: int) -> None:
        if self.memory is Memory.WHOLE and 0 < length < len(self._cache[slot]):
            raise ValueError(f"cannot cut sequence {slot} to {length}")
        del self._cache[slot][length:]

    def share(self, giver: int, taker: int, length: int) -> None:
        if self.memory is Memory.WHOLE or self._cache[taker] or length > len(self._cache[giver]):
            raise ValueError(f"cannot share {length} cells of sequence {giver} with {taker}")
        self._cache[taker] = self._cache[giver][:length]

    def save(self, slot: int, start: int, stop: int) -> bytes:
        if self.memory is Memory.WHOLE:
            start, stop = 0, len(self._cache[slot])
        return array("Q", [start, *(cell.checksum for cell in self._cache[slot][start:stop])]).tobytes()

    def restore(self, slot: int, pieces: Sequence[Piece]) -> None:
        for state, start, stop in pieces:
            first, *checksums = array("Q", state)
            if start != len(self._cache[slot]) or stop - first > len(checksums):
                raise ValueError(f"cannot put {start} to {stop} behind {len(self._cache[slot])} tokens")
            if self.memory is Memory.WHOLE and stop - first != len(checksums):
                raise ValueError("cannot put a part of a state back")
            self._need(len(checksums))
            self._cache[slot] += map(_Cell, checksums[start - first : stop - first])

    def logits(self, part: int, back: int = 0) -> Row:
        rows = self._rows[part]
        assert rows is not None, "logits were not asked for"
        return self._row(rows[-1 - back])

    def table(self) -> Table:
        assert self._rows[0] is not None
        return np.stack([self._row(checksum) for checksum in self._rows[0]])

    def _row(self, checksum: int) -> Row:
        row = np.full(self.vocab.size, -50, np.float32)
        row[_LETTERS[(checksum + self._other) % len(_LETTERS)]] = 50
        return row

    def chain(self, params: SamplingParams) -> FakeChain:
        return FakeChain()


class FakeChain:
    def pick(self, ids: Ids, logits: Row) -> int:
        return int(ids[logits.argmax()])

    def close(self) -> None: ...


def open_model(load: Load, _threads: int) -> Fake:
    memory = Memory.APART if load.deterministic else Memory.SHARED
    adapters = [Adapter(one.name) for one in load.adapters]
    return Fake(load.context or 8192, load.parallel, load.cells, memory, adapters)


class FakeEncoder:
    """A vector depends on the tokens of its input and on nothing else. Pieces must come in order, and in one slot."""

    slots, cells, splits = 63, 0, True

    def __init__(self, context: int, pooling: str) -> None:
        self.context, self.pooling, self.vector = context, pooling, 1 if pooling == "rank" else VECTOR
        self.vocab = FakeVocab()
        self._flag = threading.Event()
        self._held: dict[int, list[int]] = {}  # by slot, the tokens so far

    @property
    def built(self) -> Built:
        return Built()

    def template(self) -> None:
        return None

    def use_threads(self, count: int) -> None: ...

    def abort(self) -> None:
        self._flag.set()

    def arm(self) -> None:
        self._flag.clear()

    def encode(self, passages: Sequence[Passage]) -> Sequence[Row | None]:
        if self._flag.is_set():
            raise Aborted
        return [self._one(passage) for passage in passages]

    def _one(self, passage: Passage) -> Row | None:
        held = self._held.setdefault(passage.slot, [])
        if passage.start != len(held) or not 0 <= passage.slot <= self.slots:
            raise ValueError(f"cannot encode at {passage.start}: sequence {passage.slot} holds {len(held)} tokens")
        held += passage.tokens
        if not passage.last:
            return None
        del self._held[passage.slot]
        made = np.random.default_rng(zlib.crc32(array("H", held).tobytes())).standard_normal(self.vector)
        return made.astype(np.float32)

    def drop(self, slot: int) -> None:
        self._held.pop(slot, None)


def open_encoder(load: Load, _threads: int) -> FakeEncoder:
    return FakeEncoder(load.context or 8192, load.pooling)


if __name__ == "__main__":
    confine(int(sys.argv[2]))
    serve(int(sys.argv[1]), open_model, open_encoder)
