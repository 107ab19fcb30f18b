"""The least that a Python process between a worker and a client takes for a token: what our daemon is held against."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from offgridd.engine import wire
from serving.client import ENDS
from serving.lab import Lab
from serving.record import stated
from serving.streams import WIDE
from serving.worker import Worker, worker

RUNS, TOKENS = 9, 128
EVENT = 200  # bytes around a token's text in a server-sent event
SINK = """
import asyncio, sys
class Sink(asyncio.Protocol):
    def data_received(self, data): pass
async def main():
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextmanager
def client() -> Iterator[int]:
    """The port of a process that reads what it is sent and does nothing with it."""
    with subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class Between(asyncio.Protocol):
    """Takes a token's frame apart, puts an event around its text, and hands it on."""

    def __init__(self, out: asyncio.Transport) -> None:
        self._out, self._splitter = out, wire.Splitter()
        self.tokens, self.over = 0, asyncio.Event()

    def data_received(self, data: bytes) -> None:
        for body in self._splitter.feed(data):
            frame = wire.from_worker(body)
            if isinstance(frame, wire.Tokens):
                self.tokens += 1
                event = bytes(EVENT) + frame.items[0].text.encode()
                self._out.write(b"%x\r\n" % len(event) + event + b"\r\n")
            elif isinstance(frame, wire.Finish):
                self.over.set()


async def floor(lab: Lab) -> None:
    with worker(lab.file.path, WIDE) as found, client() as port:
        out, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", port)
        taken = await _measure(found, out)
        out.close()
    text = f"{statistics.median(taken) * 1e6:.0f} us of its CPU time"
    title = "a program that only hands the bytes on, a token, at the pace of 1 stream"
    lab.note(stated("daemon-floor", title, text))


async def _measure(found: Worker, out: asyncio.Transport) -> list[float]:
    """Seconds of this process for each token, by run."""
    found.sock.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, between = await loop.create_unix_connection(lambda: Between(out), sock=found.sock)
    sampling = wire.SamplingParams(temperature=0, logit_bias=tuple((token, -100.0) for token in ENDS))
    taken: list[float] = []
    for run in range(RUNS):
        between.over.clear()
        message = wire.Message("user", f"Turn {run}: tell it.")
        began, before = time.process_time(), between.tokens
        transport.write(wire.encode(wire.Chat(run + 1, "bench", (message,), sampling, TOKENS)))
        await between.over.wait()
        taken.append((time.process_time() - began) / (between.tokens - before))
    return taken
