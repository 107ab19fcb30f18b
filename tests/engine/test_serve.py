"""The engine's loop as a worker process on the deterministic model, whose text shows any lost or foreign token."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.rig import FILE_PATH

from offgridd.engine import wire
from offgridd.engine.fake import Fake
from offgridd.engine.port import Part


def alone(text: str, count: int) -> str:
    """What the model says to `text` when nothing else is there."""
    model, prompt = Fake(4096), list(f"user: {text}\nassistant: ".encode())
    made: list[int] = []
    for at in range(0, len(prompt), 500):
        model.decode([Part(0, at, prompt[at : at + 500], True)])
    while len(made) < count:
        made.append(int(model.logits(0).argmax()))
        model.decode([Part(0, len(prompt) + len(made) - 1, made[-1:], True)])
    return bytes(made).decode()


class Worker:
    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._splitter, self._bodies = sock, wire.Splitter(), list[bytes]()
        self.text: dict[int, str] = {}
        self.admitted: list[int] = []
        self.ends: dict[int, wire.Finish | wire.Refused] = {}

    def send(self, frame: wire.Frame) -> None:
        self.sock.sendall(wire.encode(frame))

    def ask(self, number: int, text: str, count: int, client: str = "a", stop: tuple[str, ...] = ()) -> None:
        messages = (wire.Message("user", text),)
        self.send(wire.Chat(number, client, messages, wire.SamplingParams(), count, stop))

    def receive(self) -> wire.FromWorker:
        while not self._bodies:
            data = self.sock.recv(1 << 16)
            assert data, "the worker has ended"
            self._bodies += self._splitter.feed(data)
        return wire.from_worker(self._bodies.pop(0))

    def take(self) -> None:
        """One frame; what it says of requests is kept."""
        match self.receive():
            case wire.Tokens(items):
                for item in items:
                    assert item.request not in self.ends, "nothing comes after the end"
                    self.text[item.request] = self.text.get(item.request, "") + item.text
            case wire.Admitted(number):
                self.admitted.append(number)
            case wire.Finish(number) | wire.Refused(number) as end:
                assert number not in self.ends, "exactly one end"
                self.ends[number] = end

    def wait(self, *numbers: int) -> None:
        while not set(numbers) <= set(self.ends):
            self.take()


@contextmanager
def worker(context: int = 1024, parallel: int = 4, cells: int | None = None, apart: bool = False) -> Iterator[Worker]:
    """`apart`: a buffer a sequence."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    found = FILE_PATH.stat()
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    argv = [sys.executable, "-I", "-m", "offgridd.engine.fake", str(theirs.fileno()), str(os.getpid())]
    with ours, theirs, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        made = Worker(ours)
        try:
            made.send(
                wire.Load(((str(FILE_PATH), identity),), context, parallel, cells, 1, None, True, deterministic=apart)
            )
            loaded = made.receive()
            assert isinstance(loaded, wire.Loaded)
            assert (loaded.context, loaded.parallel, loaded.threads) == (context, parallel, 1)
            assert loaded.memory == ("a buffer each" if apart else "one buffer")
            yield made
        finally:
            ours.close()
            code = process.wait(10)
        assert code == 0


@pytest.mark.parametrize("apart", [False, True])
def test_many_at_once_get_each_its_own_answer(apart: bool) -> None:
    with worker(apart=apart) as w:
        for i in range(1, 41):
            w.ask(i, f"question {i % 7} " * (1 + i % 5), 5 + i)
        w.wait(*range(1, 41))
        for i in range(1, 41):
            assert w.text[i] == alone(f"question {i % 7} " * (1 + i % 5), 5 + i)
            assert (w.ends[i].reason, w.ends[i].completion_tokens) == ("length", 5 + i)  # type: ignore[union-attr]
        assert sorted(w.admitted) == list(range(1, 41))


def test_answers_that_outgrow_the_cells_take_turns_and_lose_nothing() -> None:
    with worker(context=1024, parallel=4, cells=1024) as w:
        for i in range(1, 17):
            w.ask(i, f"tell me {i}", 700)
        w.wait(*range(1, 17))
        assert all(w.text[i] == alone(f"tell me {i}", 700) for i in range(1, 17))


def test_whoever_leaves_gets_one_end_and_the_others_do_not_notice() -> None:
    rng = random.Random(7)
    with worker(context=1024, parallel=3, cells=1400) as w:
        left: set[int] = set()
        for i in range(1, 61):
            w.ask(i, f"number {i}", 150, client=str(i % 4))
            while len(w.admitted) < i and i not in w.ends:
                w.take()
            if rng.random() < 0.4:
                gone = rng.randint(max(1, i - 6), i)
                left.add(gone)
                w.send(wire.Abort(gone))
        w.wait(*range(1, 61))
        whole = [i for i, end in w.ends.items() if isinstance(end, wire.Finish) and end.reason == "length"]
        assert all(w.text[i] == alone(f"number {i}", 150) for i in whole)
        assert set(range(1, 61)) - set(whole) <= left
        assert len(whole) > 20


def prompt_tokens(text: str) -> int:
    return len(f"user: {text}\nassistant: ".encode())


def test_a_prompt_that_was_there_before_is_not_computed_again() -> None:
    with worker() as w:
        w.ask(1, "the same question", 10)
        w.wait(1)
        w.ask(2, "the same question", 40)
        w.ask(3, "the same quarrel", 40)
        w.wait(2, 3)
        cached = [w.ends[i].cached_tokens for i in (1, 2, 3)]  # type: ignore[union-attr]
        assert cached == [0, prompt_tokens("the same question") - 1, len("user: the same qu")]
        assert w.text[2] == alone("the same question", 40)
        assert w.text[3] == alone("the same quarrel", 40)


def test_those_that_begin_alike_share_cells_and_all_fit_at_once() -> None:
    """16 prompts of 800 tokens of which 780 are the same, in room for two."""
    with worker(context=1024, parallel=16, cells=1900) as w:
        for i in range(1, 17):
            w.ask(i, "p" * 780 + f"{i:02}", 20)
        w.wait(*range(1, 17))
        assert sum(w.ends[i].cached_tokens > 700 for i in range(1, 17)) == 15  # type: ignore[union-attr]
        assert all(w.text[i] == alone("p" * 780 + f"{i:02}", 20) for i in range(1, 17))


def test_followers_of_one_who_leaves_are_served_all_the_same() -> None:
    for _ in range(5):
        with worker(context=4096, parallel=8, cells=9000) as w:
            for i in range(1, 9):
                w.ask(i, "q" * 3900 + str(i), 20)
            while not w.admitted:
                w.take()
            w.send(wire.Abort(w.admitted[0]))
            w.wait(*range(1, 9))
            assert all(w.text[i] == alone("q" * 3900 + str(i), 20) for i in range(1, 9) if i != w.admitted[0])


def test_a_full_queue_is_429() -> None:
    with worker(parallel=1) as w:
        for i in range(1, 80):
            w.ask(i, "x", 900)
        while not any(isinstance(e, wire.Refused) for e in w.ends.values()):
            w.take()
        refused = next(e for e in w.ends.values() if isinstance(e, wire.Refused))
        assert (refused.status, refused.code, refused.retry_after) == (429, "queue_full", 2)
        for i in range(1, 80):
            w.send(wire.Abort(i))
        w.wait(*range(1, 80))


@pytest.mark.parametrize("stop", ["o", "in", "rdlu", "e t"])
def test_a_stop_string_ends_the_text_before_it(stop: str) -> None:
    whole = alone("stop", 400)
    with worker() as w:
        w.ask(1, "stop", 400, stop=(stop,))
        w.wait(1)
        cut = whole.find(stop)
        assert w.text.get(1, "") == (whole[:cut] if cut >= 0 else whole)
        assert w.ends[1].reason == ("stop" if cut >= 0 else "length")  # type: ignore[union-attr]


def test_the_model_itself_tells_a_wrong_order() -> None:
    """What the other tests lean on: another history gives another text."""
    assert alone("a", 50) != alone("b", 50)
    assert zlib.crc32(b"a") != zlib.crc32(b"b")
