"""What finished conversations cost that are kept, what they are good for, and what few cells cost. Ours alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from serving.client import Messages, Side, ask, ask_all
from serving.lab import SENTENCE, Lab, Scene, daemon, on
from serving.pairs import Contender, Found, Question, compare, turns

CONVERSATIONS = 8  # of 2,000 tokens each
KEEPS = {"context": 4096, "parallel": 8, "threads": 2, "cache": {"ram": "2GiB"}}
FULL = {"context": 1024, "parallel": 16, "kv_cells": 16384, "threads": 2}
OUTGROWN, ANSWER = 16, 300  # answers, tokens of each: more than a quarter of the cells holds


def _long(name: str) -> str:
    return f"{name}. " + SENTENCE * 98


async def _converse(side: Side, name: str) -> Messages:
    said = [{"role": "user", "content": _long(name)}]
    answer = await ask(side, said, 32)
    return [*said, {"role": "assistant", "content": answer.text}]


def _decoding(count: int) -> Scene:
    async def scene(side: Side, turn: int) -> Found:
        began = time.perf_counter()
        found = await ask_all(side, [f"Turn {turn}, story {i}: tell it." for i in range(count)], 128)
        rate = found[0].rate if count == 1 else count * 128 / (time.perf_counter() - began)
        return {f"kept-{count}": rate}

    return scene


def _going_on(conversations: Sequence[Messages]) -> Scene:
    async def scene(side: Side, turn: int) -> Found:
        said = conversations[turn % len(conversations)]
        answer = await ask(side, [*said, {"role": "user", "content": f"And then, {turn}?"}], 4)
        if answer.cached < answer.prompt - 64:
            raise RuntimeError(f"only {answer.cached} of {answer.prompt} tokens were kept")
        return {"go-on": answer.first}

    return scene


async def _anew(side: Side, turn: int) -> Found:
    return {"go-on": (await ask(side, _long(f"Saga {turn}"), 4)).first}


async def kept(lab: Lab) -> None:
    """Two workers of one daemon, of which one runs at a time: one keeps conversations, the other has none."""
    with daemon(lab, {"kept": KEEPS, "bare": KEEPS}) as rig:
        full, bare = (Side("offgridd", rig.port, name) for name in ("kept", "bare"))
        first = next(turns)
        conversations = [await _converse(full, f"Tale {first}.{i}") for i in range(CONVERSATIONS)]
        for count in (1, 8):
            title = f"16,000 tokens of finished conversations kept: decoding, {count} stream{'s' * (count > 1)}"
            asked = Question(f"kept-{count}", title, "tok/s", bound=0.97, beside="ours with none")
            other = Contender(on(bare, _decoding(count)))
            for row in await compare(lab.plan, [asked], on(full, _decoding(count)), other, slow=False):
                lab.note(row)
        asked = Question("go-on", "going on with a kept conversation of 2,000 tokens: first token", "s", bound=10,
                         higher=False, beside="ours, computing it")  # fmt: skip
        again = on(full, _going_on(conversations))
        for row in await compare(lab.plan, [asked], again, Contender(on(bare, _anew)), slow=True):
            lab.note(row)


async def _outgrow(side: Side, turn: int) -> Found:
    """`ask` refuses an answer that has not its length."""
    began = time.perf_counter()
    await ask_all(side, [f"Turn {turn}, epic {i}: tell it." for i in range(OUTGROWN)], ANSWER)
    return {"cells": OUTGROWN * ANSWER / (time.perf_counter() - began)}


async def cells(lab: Lab) -> None:
    with daemon(lab, {"quarter": {**FULL, "kv_cells": 4096}, "full": FULL}) as rig:
        quarter, full = (Side("offgridd", rig.port, name) for name in ("quarter", "full"))
        title = f"cells for a quarter, {OUTGROWN} answers of {ANSWER} tokens that outgrow them, all finished"
        asked = Question("cells", title, "tok/s", beside="ours with full cells")
        for row in await compare(lab.plan, [asked], on(quarter, _outgrow), Contender(on(full, _outgrow)), slow=True):
            lab.note(row)
