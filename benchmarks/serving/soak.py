"""A thousand requests of all sorts, many of them cut off: nothing leaks, and memory is flat. `make soak`."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from pathlib import Path
from typing import Any

from support.rig import Rig

from serving.client import Side, ask
from serving.exact import bits
from serving.lab import SENTENCE, Lab, daemon
from serving.record import stated

REQUESTS, CANCELS, TRY = 1000, 100, 0.04  # the share of them in a try
AT_ONCE, WARM = 12, 0.1  # requests; share of them after which descriptors are counted
SOAKED = {"context": 2048, "parallel": 8, "kv_cells": 6144, "cache": {"ram": "64MiB"}}
CAREFUL = {"context": 2048, "parallel": 4, "deterministic": True, "cache": {"ram": "64MiB"}}
FLAT = 0.02


def pid_of(rig: Rig, model: str) -> int:
    found = next(m for m in rig.status()["models"] if m["name"] == model)
    return int(next(w["pid"] for w in found["workers"] if w["ready"]))


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def idle(rig: Rig, model: str) -> dict[str, int]:
    """What the engine says of itself once nothing runs; what is not 0 after ten seconds has leaked."""
    serving: dict[str, int] = {}
    for _ in range(100):
        found = next(m for m in (await asyncio.to_thread(rig.status))["models"] if m["name"] == model)
        serving = {name: found["serving"][name] for name in ("running", "waiting", "parked", "cellsUsed")}
        if not any(serving.values()):
            break
        await asyncio.sleep(0.1)  # status is measured, not waited for
    return serving


def _any(rng: random.Random) -> tuple[str, int, float | None, dict[str, Any]]:
    """A request: text, tokens, seconds after which its client leaves, and the rest of its body."""
    head = rng.choice(["Once more: ", f"Number {rng.random()}: "])
    text = head + SENTENCE * rng.randint(0, 20)
    more: dict[str, Any] = {"temperature": rng.choice([0, 0.7, 1.0]), "seed": rng.randrange(1000)}
    match rng.randrange(5):
        case 0:
            more["stop"] = rng.sample([" the", "e", ".", "\n", "lighthouse"], 2)
        case 1:
            more |= {"response_format": _schema(rng), "logit_bias": {}}
        case 2:
            more |= {"logprobs": True, "top_logprobs": rng.randint(0, 5)}
    seconds = rng.uniform(0.005, 1.5) if rng.random() < 0.35 else None
    return text, rng.randint(1, 64), seconds, more


def _schema(rng: random.Random) -> dict[str, Any]:
    names = rng.sample(["name", "place", "age", "ship", "lamp"], 2)
    kinds = [{"type": "integer"}, {"type": "string", "maxLength": 12}, {"enum": ["red", "green", rng.randrange(100)]}]
    inner = {"type": "object", "properties": {n: rng.choice(kinds) for n in names}, "required": names,
             "additionalProperties": False}  # fmt: skip
    return {"type": "json_schema", "json_schema": {"name": "found", "schema": inner}}


async def many(lab: Lab, rig: Rig, count: int) -> None:
    side, pid, rng = Side("offgridd", rig.port, "soaked"), pid_of(rig, "soaked"), random.Random(4)
    gate, sizes, opened = asyncio.Semaphore(AT_ONCE), list[int](), 0

    async def one() -> None:
        async with gate:
            text, tokens, seconds, more = _any(rng)
            await ask(side, text, tokens, seconds, **more)
            sizes.append(resident(pid))

    for number, part in enumerate((int(count * WARM), count - int(count * WARM))):
        await asyncio.gather(*(one() for _ in range(part)))
        left = await idle(rig, "soaked")
        opened = opened if number else descriptors(pid)
    leaked = descriptors(pid) - opened
    same = pid == pid_of(rig, "soaked")
    quarter = len(sizes) // 4
    second, last = (statistics.median(part) for part in (sizes[quarter : 2 * quarter], sizes[-quarter:]))
    text = (
        f"left running, waiting, parked, cells: {list(left.values())}; descriptors more: {leaked}; same worker: {same}"
    )
    lab.note(
        stated("soak", f"{count} requests of all sorts", text, holds=not any(left.values()) and leaked <= 0 and same)
    )
    grown = last / second - 1
    text = f"{second / 2**20:.0f} MiB in the second quarter, {last / 2**20:.0f} MiB in the last ({grown:+.1%})"
    lab.note(stated("soak-rss", "the worker's memory over them", text, holds=grown <= FLAT))


async def cancelled(lab: Lab, rig: Rig, count: int) -> None:
    """Each is left half-way, then asked again to its end; another worker is only asked to the end."""
    tried, fresh = (Side("offgridd", rig.port, name) for name in ("tried", "fresh"))
    rng, same = random.Random(4), 0
    for i in range(count):
        text = f"Request {i}. " + SENTENCE * rng.randint(1, 36)
        await ask(tried, text, 32, seconds=rng.uniform(0.005, 1.5))
        same += await bits(tried, text) == await bits(fresh, text)
    title = "left half-way, then the same again: what a worker gives that never saw it (`deterministic: true`)"
    lab.note(stated("soak-cancel", title, f"{same} of {count}", holds=same == count))


async def soak(lab: Lab) -> None:
    share = TRY if lab.plan.quick else 1.0
    with daemon(lab, {"soaked": SOAKED}) as rig:
        await many(lab, rig, int(REQUESTS * share))
    with daemon(lab, {"tried": CAREFUL, "fresh": CAREFUL}) as rig:
        await cancelled(lab, rig, int(CANCELS * share))
