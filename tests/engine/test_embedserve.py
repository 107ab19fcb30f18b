"""The loop of an embedding model as a worker process, without llama.cpp: who gets what, in which frames."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from support.rig import FILE_PATH

from offgridd.engine import wire
from offgridd.engine.fake import END, VECTOR
from offgridd.engine.vectors import FRAME, Floats, frames, shown


class Asker:
    """A worker; what it says of each request is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._splitter, self._bodies = sock, wire.Splitter(), list[bytes]()
        self.made: dict[int, dict[int, bytes]] = {}
        self.order: list[int] = []  # of requests, as vectors came
        self.ends: dict[int, wire.Finish | wire.Refused] = {}
        self.stats: list[wire.Stats] = []

    def send(self, frame: wire.Frame) -> None:
        self.sock.sendall(wire.encode(frame))

    def receive(self) -> wire.FromWorker:
        while not self._bodies:
            data = self.sock.recv(1 << 16)
            assert data, "the worker has ended"
            self._bodies += self._splitter.feed(data)
        return wire.from_worker(self._bodies.pop(0))

    def take(self) -> None:
        match self.receive():
            case wire.Vectors(number, indices, data):
                size, known = len(data) // len(indices), self.made.setdefault(number, {})
                for place, index in enumerate(indices):
                    assert index not in known, "each once"
                    known[index] = data[place * size : (place + 1) * size]
                self.order.append(number)
            case wire.Finish(number) | wire.Refused(number) as end:
                assert number not in self.ends, "exactly one end"
                self.ends[number] = end
            case wire.Stats() as stats:
                self.stats.append(stats)

    def end(self, number: int) -> wire.Finish | wire.Refused:
        while number not in self.ends:
            self.take()
        return self.ends[number]


@contextmanager
def asker(pooling: str = "mean", context: int = 8192) -> Iterator[Asker]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    found = FILE_PATH.stat()
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    argv = [sys.executable, "-I", "-m", "offgridd.engine.fake", str(theirs.fileno()), str(os.getpid())]
    with ours, theirs, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        made = Asker(ours)
        try:
            made.send(wire.Load(((str(FILE_PATH), identity),), context, 4, None, 1, None, False, pooling=pooling))
            loaded = made.receive()
            assert isinstance(loaded, wire.Loaded)
            assert loaded.pooling == pooling
            assert loaded.vector == {"": 0, "rank": 1}.get(pooling, VECTOR)
            yield made
        finally:
            ours.close()
            code = process.wait(20)
        assert code == 0


def vector(tokens: list[int], pooling: str = "mean", dimensions: int | None = None) -> bytes:
    """What the model makes of an input, as it is sent."""
    size = 1 if pooling == "rank" else VECTOR
    made = np.random.default_rng(zlib.crc32(array("H", tokens).tobytes())).standard_normal(size).astype(np.float32)
    found = shown(made, pooling, dimensions)
    assert found is not None
    return found.tobytes()


def test_each_input_has_its_vector() -> None:
    texts = (*("x" * (1 + 13 * i % 97) + f" {i}" for i in range(700)), "long " * 500, "e\u0301\U0001f642")
    tokens = sum(len(text.encode()) for text in texts)
    with asker() as w:
        w.send(wire.Embed(1, "a", texts))
        w.send(wire.Embed(2, "b", ("one",), dimensions=5))
        end = w.end(1)
        assert isinstance(end, wire.Finish)
        assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("stop", tokens, 0)
        assert w.made[1] == {i: vector(list(text.encode())) for i, text in enumerate(texts)}
        w.end(2)
        assert w.made[2] == {0: vector(list(b"one"), dimensions=5)}
        assert len(w.made[2][0]) == 20


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    with asker() as w:
        w.send(wire.Embed(1, "a", ("x" * 300,) * 2048))
        w.send(wire.Embed(2, "b", ("one",)))
        w.end(2)
        assert 1 not in w.ends
        w.end(1)
        assert len(w.made[1]) == 2048


def test_an_abort_frees_the_worker() -> None:
    with asker() as w:
        w.send(wire.Embed(1, "a", ("x" * 2000,) * 2000))
        while 1 not in w.made:
            w.take()
        w.send(wire.Abort(1))
        end = w.end(1)
        assert isinstance(end, wire.Finish)
        assert end.reason == "abort"
        assert len(w.made[1]) < 2000
        w.send(wire.Embed(2, "a", ("x" * 2000,)))
        w.end(2)
        assert w.made[2] == {0: vector(list(b"x" * 2000))}
        w.stats.clear()
        while not w.stats:
            w.take()
        assert w.stats[-1].now.running == w.stats[-1].now.waiting == 0


@pytest.mark.parametrize(
    ("asked", "param", "words"),
    [
        (wire.Embed(1, "a", ("ok", "x" * 101)), "input[1]", "101 tokens and the model takes 100"),
        (wire.Embed(1, "a", ("x" * 500_000,)), "input", "500000 tokens and the model takes 100"),
        (wire.Embed(1, "a", ("x",), "query"), "model", "it makes vectors of texts"),
        (wire.Embed(1, "a", ("x",), dimensions=VECTOR + 1), "dimensions", f"the model's have {VECTOR}"),
        (wire.Chat(1, "a", (wire.Message("user", "x"),), wire.SamplingParams(), 5), "model", "/v1/embeddings"),
        (wire.Bench(1, 5, 5), "model", "benchmarks are of models for text"),
        (wire.Score(1, "text", 8), "model", "benchmarks are of models for text"),
    ],
)
def test_what_can_not_be_done_is_said_before_anything_is_computed(asked: wire.Frame, param: str, words: str) -> None:
    with asker(context=100) as w:
        w.send(asked)
        end = w.end(1)
        assert isinstance(end, wire.Refused)
        assert (end.status, end.param) == (400, param)
        assert words in end.message
        assert w.made == {}
        w.send(wire.Embed(2, "a", ("x" * 100,)))
        assert isinstance(w.end(2), wire.Finish)


def test_a_reranker_puts_the_query_before_each_document() -> None:
    with asker("rank", context=20) as w:
        w.send(wire.Embed(1, "a", ("one", "<|end|>"), "what?"))
        w.end(1)
        asked = list(b"what?")
        assert w.made[1] == {i: vector([*asked, END, *text], "rank") for i, text in enumerate((b"one", b"<|end|>"))}
        w.send(wire.Embed(2, "a", ("one", "x" * 15), "what?"))
        end = w.end(2)
        assert isinstance(end, wire.Refused)
        assert (end.code, end.param) == ("context_length_exceeded", "documents[1]")
        w.send(wire.Embed(3, "a", ("one",)))
        assert isinstance(w.end(3), wire.Refused)


def test_a_model_for_text_refuses_to_make_vectors() -> None:
    with asker("") as w:  # no pooling
        w.send(wire.Embed(1, "a", ("x",)))
        end = w.end(1)
        assert isinstance(end, wire.Refused)
        assert (end.status, end.param) == (400, "model")
        assert "pooling" in end.message


def test_frames_are_bounded_whatever_the_vectors() -> None:
    for size in (1, 384, 300_000):
        one = np.ones(size, np.float32)
        found: list[tuple[int, Floats]] = [(i, one) for i in range(9)]
        made = frames(5, found)
        assert [i for frame in made for i in frame.indices] == list(range(9))
        assert all(len(frame.data) <= max(FRAME, 4 * size) for frame in made)
        assert b"".join(frame.data for frame in made) == one.tobytes() * 9
    assert frames(5, []) == []


def test_vectors_have_length_one_after_they_are_cut_and_scores_stay() -> None:
    long = np.array([3.0, 4.0, 12.0], np.float32)
    whole, cut = shown(long, "mean", None), shown(long, "last", 2)
    assert whole is not None
    assert cut is not None
    assert whole == pytest.approx(long / 13)
    assert cut == pytest.approx([0.6, 0.8])
    assert shown(long[:1], "rank", None) == pytest.approx([3.0])
    nothing = shown(np.zeros(3, np.float32), "cls", None)
    assert nothing is not None
    assert not nothing.any()
    assert shown(np.array([1.0, np.nan], np.float32), "mean", None) is None
