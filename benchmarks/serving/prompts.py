"""Prompts that begin alike, chats that grow, and a long prompt beside running streams: beside llama-server."""

from __future__ import annotations

import asyncio
import statistics
import time
from itertools import pairwise

from serving.client import Answer, Call, Messages, Side, ask, ask_all
from serving.lab import SENTENCE, Lab, arena, better, on
from serving.pairs import Contender, Found, Question, compare
from serving.peer import Shape
from serving.streams import WIDE

LONG = Shape(slots=10, cells=81920, context=8192)  # so that a split cache, too, has room for a long prompt
TURNS = 10
RUNNING, LEAD, AFTER = 8, 1.5, 0.5  # streams, seconds that they run before the prompt comes and after it


async def common(side: Side, turn: int) -> Found:
    """Seconds until the last of 16 requests, with 800 tokens in common and never seen before, has its first token."""
    prefix = f"Book {turn}. " + SENTENCE * 42
    found = await ask_all(side, [f"{prefix} Question {i}?" for i in range(16)], 4)
    return {"prefix": max(answer.first for answer in found)}


async def prefix(lab: Lab) -> None:
    asked = Question("prefix", "16 requests at once with 800 tokens in common, never seen: last first token", "s",
                     bound=8, higher=False)  # fmt: skip
    with arena(lab, WIDE) as found:
        other = await better(lab, found, common, asked, tries=1)
        for row in await compare(lab.plan, [asked], on(found.ours, common), other, slow=True):
            lab.note(row)


async def conversation(side: Side, turn: int) -> Found:
    """Median seconds to the first token of turns 2 to 10; each answer is sent back."""
    said: Messages = []
    firsts: list[float] = []
    for number in range(TURNS):
        said.append({"role": "user", "content": f"Chat {turn}, {number}: " + SENTENCE * 3})
        answer = await ask(side, said, 32)
        said.append({"role": "assistant", "content": answer.text})
        firsts.append(answer.first)
    return {"chat": statistics.median(firsts[1:])}


async def chat(lab: Lab) -> None:
    asked = Question("chat", "chat of 10 turns, answers sent back: first token of turns 2 to 10", "s", bound=1.0,
                     higher=False)  # fmt: skip
    with arena(lab, LONG) as found:
        other = await better(lab, found, conversation, asked, tries=1)
        for row in await compare(lab.plan, [asked], on(found.ours, conversation), other, slow=False):
            lab.note(row)


def _volume(name: str) -> str:
    """About 4,000 tokens."""
    return f"{name}. " + SENTENCE * 210


async def beside(side: Side, turn: int) -> Found:
    """Of 8 streams their longest gap and their speed while a long prompt arrives, and how fast that one is computed."""
    calls = [Call(side, f"Turn {turn}, tale {i}: tell it.", 1500) for i in range(RUNNING)]
    tasks = [asyncio.create_task(call.run()) for call in calls]
    await asyncio.sleep(LEAD)
    came = await ask(side, _volume(f"Volume {turn}"), 4)
    await asyncio.sleep(AFTER)
    for call in calls:
        call.close()
    over = time.perf_counter()
    found = await asyncio.gather(*tasks)
    began, ended = came.asked, came.asked + came.first
    tokens = sum(began < t < ended for answer in found for t in answer.times)
    return {"gap": max(_longest(a, began, over) for a in found), "long": came.prompt / came.first,
            "beside": tokens / came.first}  # fmt: skip


def _longest(answer: Answer, began: float, over: float) -> float:
    """The longest gap that ends after `began`; the one that `over` cuts off counts, too."""
    return max(b - a for a, b in pairwise([*answer.times, over]) if b > began)


async def alone(side: Side, turn: int) -> Found:
    """How fast the same prompt is computed when nothing else runs."""
    came = await ask(side, _volume(f"Tome {turn}"), 4)
    return {"long": came.prompt / came.first}


async def long(lab: Lab) -> None:
    asked = [
        Question("gap", "4,000-token prompt beside 8 streams: their longest gap", "s", bound=10, higher=False),
        Question("long", "4,000-token prompt beside 8 streams: its prefill", "tok/s", 0.65, beside="ours alone"),
        Question("beside", "4,000-token prompt beside 8 streams: the streams meanwhile", "tok/s"),
    ]
    with arena(lab, LONG) as found:
        other = await better(lab, found, beside, asked[0], tries=1)

        async def theirs(turn: int) -> Found:
            return {**await other.measure(turn), **await alone(found.ours, turn)}

        for row in await compare(lab.plan, asked, on(found.ours, beside), Contender(theirs, other.note), slow=True):
            lab.note(row)
