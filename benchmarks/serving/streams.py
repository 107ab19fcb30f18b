"""How fast answers come: so many streams at once beside llama-server, and one beside llama-bench."""

from __future__ import annotations

import asyncio
import time

from serving.client import ENDS, Side, ask_all
from serving.lab import Lab, Scene, arena, better, on
from serving.pairs import Contender, Found, Measure, Question, compare
from serving.peer import Shape, llama_bench
from serving.worker import Worker, worker

WIDE = Shape(slots=16, cells=16384, context=1024)
TOKENS = 64
DEPTH = 42  # tokens of the prompt below, in its template
IN_A_ROW = 3  # streams, one after the other, that are one side of a pair beside llama-bench


def at_once(count: int, tokens: int = TOKENS, key: str = "streams") -> Scene:
    """Tokens a second of so many streams, from the question to the end of the last."""

    async def scene(side: Side, turn: int) -> Found:
        began = time.perf_counter()
        await ask_all(side, [f"Turn {turn}, story {i}: tell it." for i in range(count)], tokens)
        return {f"{key}-{count}": count * tokens / (time.perf_counter() - began)}

    return scene


async def streams(lab: Lab) -> None:
    with arena(lab, WIDE) as found:
        for count in (1, 4, 16):
            title = "1 stream of 64 tokens" if count == 1 else f"{count} streams of 64 tokens"
            aim = "1.2" if count == 16 else ""
            asked = Question(f"streams-{count}", title, "tok/s", bound=1.0, aim=aim)
            other = await better(lab, found, at_once(count), asked)
            for row in await compare(lab.plan, [asked], on(found.ours, at_once(count)), other, slow=False):
                lab.note(row)


def decoding(of: Worker) -> Measure:
    async def measure(turn: int) -> Found:
        """Tokens a second between the first and the last."""
        taken = [
            await asyncio.to_thread(of.decode, f"Turn {turn}, part {i}: tell it.", TOKENS, ENDS)
            for i in range(IN_A_ROW)
        ]
        return {"bench": IN_A_ROW * (TOKENS - 1) / sum(taken)}

    return measure


async def bench(lab: Lab) -> None:
    """Ours from the worker, as llama-bench measures without HTTP, sampling and text: it is the limit."""
    with worker(lab.file.path, WIDE) as ours:

        async def limit(turn: int) -> Found:
            return {"bench": await asyncio.to_thread(llama_bench, lab.programs, lab.file.path, DEPTH, WIDE.threads)}

        ours.decode("Warm up.", TOKENS, ENDS)
        title = "1 stream from the worker, between first and last token"
        asked = Question("bench", title, "tok/s", bound=0.95, beside="llama-bench")
        other = Contender(limit, f"-p 0 -n 64 -d {DEPTH} -fa 1 -t {WIDE.threads}")
        for row in await compare(lab.plan, [asked], decoding(ours), other, slow=False):
            lab.note(row)
