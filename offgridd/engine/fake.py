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

from offgridd.engine.boot import confine, serve
from offgridd.engine.port import Aborted, OutOfCells, Part
from offgridd.engine.wire import Load, SamplingParams

END = 256  # the one control token
_LETTERS = b"etaoin shrdlu cmfwyp vbgkjqxz"


class FakeVocab:
    """A token a byte, and one that ends."""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return bytes([token]) if token != END else b"<|end|>" if special else b""

    def is_end(self, token: int) -> bool:
        return token == END

    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        return {"<|end|>": END}, {END: 0}

    def names(self) -> dict[str, str]:
        return {"bos_token": "", "eos_token": "<|end|>"}


class Fake:
    """Holds for each sequence the checksums of its tokens up to each one."""

    chunk = 512

    def __init__(self, context: int, slots: int = 1, cells: int | None = None) -> None:
        self.context, self.slots, self.cells = context, slots, cells or context * slots
        self.vocab = FakeVocab()
        self._cache: list[list[int]] = [[] for _ in range(slots)]
        self._flag = threading.Event()
        self.logits: list[int | None] = []  # for each part of the newest decode, the checksum that decides

    def template(self) -> str:
        return "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "

    def abort(self) -> None:
        self._flag.set()

    def arm(self) -> None:
        self._flag.clear()

    def decode(self, parts: Sequence[Part]) -> None:
        rows = sum(len(part.tokens) for part in parts)
        if rows > self.chunk:
            raise ValueError(f"cannot decode {rows} rows: {self.chunk} is the most")
        if rows > self.cells - sum(map(len, self._cache)):
            raise OutOfCells
        if self._flag.is_set():
            raise Aborted
        self.logits = [self._extend(part) for part in parts]

    def _extend(self, part: Part) -> int | None:
        cache = self._cache[part.slot]
        if part.start != len(cache):
            raise ValueError(f"cannot decode at {part.start}: sequence {part.slot} holds {len(cache)} tokens")
        for token in part.tokens:
            cache.append(zlib.crc32(token.to_bytes(2, "little"), cache[-1] if cache else 0))
        return cache[-1] if part.logits else None

    def cut(self, slot: int, length: int) -> None:
        del self._cache[slot][length:]

    def save(self, slot: int) -> bytes:
        return array("L", self._cache[slot]).tobytes()

    def restore(self, slot: int, state: bytes) -> None:
        self._cache[slot] = []
        found = array("L", state)
        if len(found) > self.cells - sum(map(len, self._cache)):
            raise OutOfCells
        self._cache[slot] = found.tolist()

    def sampler(self, params: SamplingParams) -> FakeSampler:
        return FakeSampler(self)


class FakeSampler:
    def __init__(self, model: Fake) -> None:
        self._model = model

    def sample(self, part: int) -> int:
        checksum = self._model.logits[part]
        assert checksum is not None, "logits were not asked for"
        return _LETTERS[checksum % len(_LETTERS)]

    def close(self) -> None: ...


def open_model(load: Load, _threads: int) -> Fake:
    return Fake(load.context or 8192, load.parallel, load.cells)


if __name__ == "__main__":
    confine(int(sys.argv[2]))
    serve(int(sys.argv[1]), open_model)
