"""`deterministic: true`: the same request alone and under load gives the same bits; and what that costs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from serving.busy import neighbours
from serving.client import Side, ask
from serving.lab import SENTENCE, Lab, daemon, on
from serving.pairs import Contender, Found, Question, compare, turns
from serving.record import stated
from serving.streams import at_once

REQUESTS, TRY = 100, 6
AT_ONCE, LOADERS = 3, 4  # of those that are looked at; others that come and go beside them
LOAD = {"context": 4096, "parallel": 8}  # threads are not declared, so that they change under load
TOKENS = 32
Bits = tuple[str, str]


async def bits(side: Side, text: str) -> Bits:
    """Text and logprobs, as they were sent."""
    answer = await ask(side, text, TOKENS, logprobs=True, top_logprobs=2)
    return answer.text, repr(answer.logprobs)


async def disturb(side: Side, rng: random.Random, over: asyncio.Event) -> None:
    """Others: short ones, ones that leave half-way, long prompts."""
    while not over.is_set():
        head = f"Beside {rng.random()}. "
        match rng.randrange(3):
            case 0:
                await ask(side, head, rng.randint(1, 60))
            case 1:
                await ask(side, head + SENTENCE * rng.randint(1, 40), 60, seconds=rng.uniform(0.02, 1.5))
            case _:
                await ask(side, head + SENTENCE * rng.randint(40, 120), rng.randint(1, 20))


async def again(side: Side, texts: Sequence[str], rng: random.Random) -> dict[str, Bits]:
    """All once more in another order, a few at once, beside others; the second half beside busy neighbours, too."""
    over, order = asyncio.Event(), rng.sample(texts, len(texts))
    load = [asyncio.create_task(disturb(side, random.Random(rng.random()), over)) for _ in range(LOADERS)]
    half = len(order) // 2
    found = await _few_at_once(side, order[:half])
    with neighbours():
        found |= await _few_at_once(side, order[half:])
    over.set()
    await asyncio.gather(*load)
    return found


async def _few_at_once(side: Side, texts: Sequence[str]) -> dict[str, Bits]:
    gate, found = asyncio.Semaphore(AT_ONCE), dict[str, Bits]()

    async def one(text: str) -> None:
        async with gate:
            found[text] = await bits(side, text)

    await asyncio.gather(*(one(text) for text in texts))
    return found


async def prefill(side: Side, turn: int) -> Found:
    came = await ask(side, f"Record {turn}. " + SENTENCE * 36, 2)
    return {"exact-prefill": came.prompt / came.first}


async def exact(lab: Lab) -> None:
    with daemon(lab, {"exact": {**LOAD, "deterministic": True}, "plain": LOAD}) as rig:
        side, plain = (Side("offgridd", rig.port, name) for name in ("exact", "plain"))
        count, rng = TRY if lab.plan.quick else REQUESTS, random.Random(4)
        texts = [f"Question {i} of {next(turns)}. " + SENTENCE * rng.randint(0, 36) for i in range(count)]
        alone = {text: await bits(side, text) for text in texts}
        loaded = await again(side, texts, rng)
        same = sum(alone[text] == loaded[text] for text in texts)
        title = "`deterministic: true`: requests whose text and logprobs are the same alone and under load"
        lab.note(stated("exact", title, f"{same} of {count}", holds=same == count))
        await _costs(lab, side, plain)


async def _costs(lab: Lab, side: Side, plain: Side) -> None:
    head, beside = "`deterministic: true`", "ours in the default mode"
    scenes: list[tuple[str, str, Any]] = [("exact-prefill", "prefill of 700 tokens", prefill)]
    scenes += [(f"exact-{n}", f"{n} stream{'s' * (n > 1)}", at_once(n, 64, "exact")) for n in (1, 8)]
    for key, what, scene in scenes:
        asked = Question(key, f"{head}: {what}", "tok/s", beside=beside)
        for row in await compare(lab.plan, [asked], on(side, scene), Contender(on(plain, scene)), slow=False):
            lab.note(row)
