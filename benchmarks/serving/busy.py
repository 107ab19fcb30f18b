"""With two busy neighbours on the cores: beside llama-server, and beside half of what an idle machine gives."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np

from serving.client import Answer, Side, ask_all
from serving.lab import Lab, Scene, arena, better, daemon, on
from serving.pairs import Contender, Found, Measure, Question, compare, turns
from serving.streams import WIDE, at_once

ADAPTS = {"context": WIDE.context, "parallel": WIDE.slots, "kv_cells": WIDE.cells}  # the thread count is not declared
NEIGHBOURS, SETTLE = 2, 1.0  # processes, seconds before anything is asked
TOKENS, PATIENCE = 128, 20.0  # of each stream; seconds after which what came is counted
P99 = 0.5  # seconds


@contextmanager
def neighbours() -> Iterator[None]:
    """Processes that do nothing but take the CPU."""
    made = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(NEIGHBOURS)]
    try:
        yield
    finally:
        for process in made:
            process.kill()
            process.wait()


def rate_of(count: int) -> Scene:
    """Tokens a second, and the gap that one in a hundred is longer than."""

    async def scene(side: Side, turn: int) -> Found:
        began = time.perf_counter()
        found = await ask_all(side, [f"Turn {turn}, story {i}: tell it." for i in range(count)], TOKENS, PATIENCE)
        ended = time.perf_counter()
        rate = max(0.5, sum(len(a.times) for a in found)) / (ended - began)
        return {f"busy-{count}": rate, f"share-{count}": rate, f"p99-{count}": _p99(found, ended)}

    return scene


def _p99(found: list[Answer], ended: float) -> float:
    """Where an answer was cut off, the time since its last token is a gap, too."""
    gaps = [g for a in found for g in (a.gaps if a.reason else [b - x for x, b in pairwise([*a.times, ended])])]
    return float(np.percentile(gaps, 99)) if gaps else PATIENCE


def _questions(count: int, bound: float) -> list[Question]:
    head = f"two busy neighbours, {count} stream{'s' * (count > 1)}"
    return [
        Question(f"busy-{count}", head, "tok/s", bound=bound),
        Question(f"share-{count}", f"{head}: the fair share", "tok/s", bound=0.8, beside="half of ours when idle"),
        Question(f"p99-{count}", f"{head}: p99 between tokens", "s", bound=1, higher=False, beside="the limit"),
    ]


def _sides(side: Side, other: Contender, count: int) -> tuple[Measure, Measure]:
    """Ours with neighbours; what it stands beside: theirs with neighbours, half of ours without, and the limit."""
    scene = rate_of(count)

    async def ours(turn: int) -> Found:
        with neighbours():
            await asyncio.sleep(SETTLE)
            return await scene(side, turn)

    async def theirs(turn: int) -> Found:
        with neighbours():
            await asyncio.sleep(SETTLE)
            rival = (await other.measure(turn))[f"busy-{count}"]
        await scene(side, next(turns))  # the thread count comes back
        idle = (await scene(side, next(turns)))[f"busy-{count}"]
        return {f"busy-{count}": rival, f"share-{count}": idle / 2, f"p99-{count}": P99}

    return ours, theirs


async def busy(lab: Lab) -> None:
    with arena(lab, WIDE, ADAPTS) as found:
        for count, bound in ((1, 4.0), (8, 1.7)):
            asked = _questions(count, bound)
            other = await better(lab, found, rate_of(count), asked[0])  # idle: as its user would choose
            ours, theirs = _sides(found.ours, other, count)
            for row in await compare(lab.plan, asked, ours, Contender(theirs, other.note), slow=False):
                lab.note(row)


async def controller(lab: Lab) -> None:
    """The same model twice in one daemon, of which one runs at a time: a declared thread count is never changed."""
    with daemon(lab, {"adapts": ADAPTS, "fixed": {**ADAPTS, "threads": WIDE.threads}}) as rig:
        adapts, fixed = (Side("offgridd", rig.port, name) for name in ("adapts", "fixed"))
        for count in (1, 16):
            title = f"threads that adapt, idle machine, {count} stream{'s' * (count > 1)}"
            asked = Question(f"adapts-{count}", title, "tok/s", bound=0.97, beside="ours, fixed threads")
            scene = at_once(count, 128 if count == 1 else 64, "adapts")
            for row in await compare(lab.plan, [asked], on(adapts, scene), Contender(on(fixed, scene)), slow=False):
                lab.note(row)
