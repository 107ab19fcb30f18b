"""One of our workers without the daemon: what the engine gives before HTTP, as llama-bench gives it for the library."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from offgridd.engine import wire
from serving.peer import Shape

_ids = itertools.count(1)


class Worker:
    def __init__(self, sock: socket.socket) -> None:
        self.sock, self._splitter, self._bodies = sock, wire.Splitter(), list[bytes]()

    def send(self, frame: wire.Frame) -> None:
        self.sock.sendall(wire.encode(frame))

    def receive(self) -> wire.FromWorker:
        while not self._bodies:
            self._bodies += self._splitter.feed(self.sock.recv(1 << 16))
        return wire.from_worker(self._bodies.pop(0))

    def decode(self, text: str, tokens: int, banned: Sequence[int]) -> float:
        """Seconds from the first token to the last of a greedy answer of so many tokens, without the `banned` ones."""
        return self.answer(text, tokens, banned)[0]

    def answer(
        self, text: str, tokens: int, banned: Sequence[int], temperature: float = 0.0, seed: int | None = None
    ) -> tuple[float, str]:
        """The same, and the text."""
        bias = tuple((token, -100.0) for token in banned)
        sampling = wire.SamplingParams(temperature=temperature, seed=seed, logit_bias=bias)
        request = next(_ids)
        self.send(wire.Chat(request, "bench", (wire.Message("user", text),), sampling, tokens))
        times, said = list[float](), list[str]()
        while not isinstance(frame := self.receive(), wire.Finish | wire.Refused):
            if isinstance(frame, wire.Tokens):
                times.append(time.perf_counter())
                said += [item.text for item in frame.items]
        if not isinstance(frame, wire.Finish) or frame.completion_tokens != tokens:
            raise RuntimeError(f"the worker did not make {tokens} tokens: {frame}")
        return times[-1] - times[0], "".join(said)


def named(file: Path) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    """A file as a Load names it."""
    found = file.stat()
    return ((str(file), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)),)


@contextmanager
def worker(file: Path, shape: Shape, **more: Any) -> Iterator[Worker]:
    """In the environment that the daemon gives it; `more` is of its Load."""
    ours, theirs = socket.socketpair()
    environment = {"PATH": os.environ["PATH"], "GOMP_SPINCOUNT": "1000", "GGML_NO_BACKTRACE": "1"}
    argv = [sys.executable, "-I", "-m", "offgridd.engine", str(theirs.fileno()), str(os.getpid())]
    with (
        ours,
        subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environment, stderr=subprocess.DEVNULL) as process,
    ):
        theirs.close()
        made = Worker(ours)
        load = wire.Load(named(file), shape.context, shape.slots, shape.cells, shape.threads, None, True, **more)
        made.send(load)
        try:
            if not isinstance(loaded := made.receive(), wire.Loaded):
                raise RuntimeError(f"the worker did not load: {loaded}")
            yield made
        finally:
            ours.close()
            process.wait(20)
