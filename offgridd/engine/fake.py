"""A worker without llama.cpp: `python -m offgridd.engine.fake FD PARENT`, chosen by OFFGRIDD_ENGINE=fake.

For tests and for benchmarks of everything around the engine. Each token of an answer is a letter that depends on all
tokens before it and on nothing else, so that a lost, doubled or foreign token shows in the text. It costs no time.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Sequence

from offgridd.engine.boot import confine, serve
from offgridd.engine.port import Aborted
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
    chunk = 512

    def __init__(self, context: int) -> None:
        self.context, self.vocab = context, FakeVocab()
        self._cache: list[int] = []  # for each token, the checksum of all up to it
        self._flag = threading.Event()

    def template(self) -> str:
        return "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "

    def abort(self) -> None:
        self._flag.set()

    def arm(self) -> None:
        self._flag.clear()

    def clear(self) -> None:
        self._cache.clear()

    def keep(self, length: int) -> None:
        del self._cache[length:]

    def decode(self, tokens: Sequence[int], start: int, *, logits: bool) -> None:
        if start != len(self._cache):
            raise ValueError(f"cannot decode at {start}: the cache holds {len(self._cache)} tokens")
        if self._flag.is_set():
            raise Aborted
        for token in tokens:
            self._cache.append(zlib.crc32(token.to_bytes(2, "little"), self._cache[-1] if self._cache else 0))

    def sampler(self, params: SamplingParams) -> FakeSampler:
        return FakeSampler(self._cache)


class FakeSampler:
    def __init__(self, cache: list[int]) -> None:
        self._cache = cache

    def sample(self) -> int:
        return _LETTERS[self._cache[-1] % len(_LETTERS)]

    def close(self) -> None: ...


def open_model(load: Load, _threads: int) -> Fake:
    return Fake(load.context or 8192)


if __name__ == "__main__":
    confine(int(sys.argv[2]))
    serve(int(sys.argv[1]), open_model)
