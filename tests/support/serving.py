"""A worker process with the real engine, asked over its socket as the daemon does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offgridd.engine import wire

GREEDY = wire.SamplingParams(temperature=0)


@dataclass
class Got:
    """What came for one request so far."""

    text: str = ""
    logprobs: list[wire.TokenLogprob] = field(default_factory=list)
    end: wire.Finish | wire.Refused | None = None

    @property
    def answer(self) -> tuple[str, list[wire.TokenLogprob], str, int]:
        """All that must be the same whenever it is asked."""
        assert isinstance(self.end, wire.Finish), self.end
        return self.text, self.logprobs, self.end.reason, self.end.completion_tokens

    @property
    def cached(self) -> int:
        assert isinstance(self.end, wire.Finish), self.end
        return self.end.cached_tokens


class Serving:
    def __init__(self, sock: socket.socket, loaded: wire.Loaded) -> None:
        self.loaded, self.got = loaded, dict[int, Got]()
        self._sock, self._splitter, self._bodies = sock, wire.Splitter(), list[bytes]()
        self._request = 0
        self.stats: wire.Stats | None = None  # the newest
        self.steps = self.guessed = self.held = 0  # of all
        self.scored: wire.Scored | None = None

    def send(self, frame: wire.Frame) -> None:
        self._sock.sendall(wire.encode(frame))

    def ask(
        self, *texts: str, count: int = 30, sampling: wire.SamplingParams = GREEDY, logprobs: int = 0,
        adapters: tuple[str, ...] = (),
    ) -> int:  # fmt: skip
        """Texts of the user and of the model in turn; returns the request's number."""
        self._request += 1
        messages = tuple(wire.Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))
        self.got[self._request] = Got()
        self.send(wire.Chat(self._request, "a", messages, sampling, count, logprobs=logprobs, adapters=adapters))
        return self._request

    def abort(self, request: int) -> None:
        self.send(wire.Abort(request))

    def take(self) -> None:
        while not self._bodies:
            self._bodies += self._splitter.feed(received(self._sock))
        match wire.from_worker(self._bodies.pop(0)):
            case wire.Tokens(items):
                for item in items:
                    self.got[item.request].text += item.text
                    self.got[item.request].logprobs += [item.logprob] if item.logprob else []
            case wire.Finish(request) | wire.Refused(request) as end:
                assert self.got[request].end is None, "exactly one end"
                self.got[request].end = end
            case wire.Stats() as stats:
                self.stats = stats
                self.steps, self.guessed = self.steps + stats.steps, self.guessed + stats.guessed
                self.held += stats.held
            case wire.Scored() as scored:
                self.scored = scored

    def begun(self, request: int) -> None:
        """Until it has some text."""
        while not self.got[request].text and not self.got[request].end:
            self.take()

    def wait(self, *requests: int) -> list[Got]:
        while any(self.got[r].end is None for r in requests):
            self.take()
        return [self.got[r] for r in requests]

    def score(self, text: str, n_ctx: int, chunk: int = 0) -> wire.Scored | wire.Refused:
        """How likely it says that a piece of the text is, waited for."""
        self._request, self.scored = self._request + 1, None
        self.got[self._request] = Got()
        self.send(wire.Score(self._request, text, n_ctx, chunk))
        while self.scored is None and self.got[self._request].end is None:
            self.take()
        end = self.scored or self.got[self._request].end
        assert isinstance(end, wire.Scored | wire.Refused)
        assert end.id == self._request
        return end

    def rested(self) -> wire.Gauges:
        """What it reports when its last request, which was waited for, has ended."""
        self.stats = None
        while self.stats is None:
            self.take()
        return self.stats.now

    def answers(self, *texts: str, **options: Any) -> Got:
        """The answer, waited for."""
        return self.wait(self.ask(*texts, **options))[0]


def received(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    assert data, "the worker has ended"
    return data


def whole(path: Path) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    """A file as a Load names it."""
    found = path.stat()
    return ((str(path), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)),)


@contextmanager
def serving(path: Path, context: int = 1024, parallel: int = 4, threads: int = 1, **more: Any) -> Iterator[Serving]:
    load = wire.Load(whole(path), context, parallel, None, threads, None, True, **more)
    with _started(load) as (sock, splitter, loaded, bodies):
        assert isinstance(loaded, wire.Loaded), loaded
        made = Serving(sock, loaded)
        made._bodies, made._splitter = bodies, splitter
        yield made


def refused(path: Path, **more: Any) -> wire.LoadFailed:
    """Why a worker does not load it."""
    with _started(wire.Load(whole(path), 512, 2, None, 1, None, True, **more)) as (_, _, failed, _):
        assert isinstance(failed, wire.LoadFailed), failed
        return failed


@contextmanager
def _started(load: wire.Load) -> Iterator[tuple[socket.socket, wire.Splitter, wire.FromWorker, list[bytes]]]:
    """A worker that was told to load this: its socket, its first answer, and what came behind that already."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    argv = [sys.executable, "-I", "-m", "offgridd.engine", str(theirs.fileno()), str(os.getpid())]
    with ours, theirs, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        try:
            ours.sendall(wire.encode(load))
            splitter = wire.Splitter()
            while not (bodies := splitter.feed(received(ours))):
                pass
            yield ours, splitter, wire.from_worker(bodies[0]), bodies[1:]
        finally:
            ours.close()
            code = process.wait(20)
        assert code == 0
