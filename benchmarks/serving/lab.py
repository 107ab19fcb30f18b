"""Servers to measure: our daemon with the models of a scene; llama-server with a unified cache and with a split one."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from support.rig import Rig, until

from serving.client import Side, ask
from serving.models import ModelFile
from serving.pairs import Contender, Found, Measure, Plan, Question, turns
from serving.peer import Shape, llama_server
from serving.record import Row, keep

TRIES = 3  # with each kind of cache, to see which is the better
SENTENCE = "The lighthouse keeper wrote in his book that the sea was calm and the ships were few. "  # 19 tokens
WARM: list[Any] = [{"role": "user", "content": "Tell it."}]
Declared = Mapping[str, object]  # a model's keys in the manifest, but for its source
Scene = Callable[[Side, int], Awaitable[Found]]


@dataclass(frozen=True, slots=True)
class Lab:
    """What all scenes share."""

    file: ModelFile
    programs: Path
    plan: Plan

    def note(self, row: Row) -> None:
        """Prints it, and keeps it unless this is only a try."""
        quick = self.plan.quick
        print(replace(row, verdict="not judged") if quick else row, flush=True)
        if not quick:
            keep(self.file.name, row)


class Arena(NamedTuple):
    ours: Side
    unified: Side
    split: Side


def declared(shape: Shape) -> dict[str, object]:
    return {"context": shape.context, "parallel": shape.slots, "kv_cells": shape.cells, "threads": shape.threads}


def on(side: Side, scene: Scene) -> Measure:
    """The scene, always with this side."""

    async def measure(turn: int) -> Found:
        return await scene(side, turn)

    return measure


@contextmanager
def daemon(lab: Lab, models: Mapping[str, Declared]) -> Iterator[Rig]:
    """Ours, once all its models are Ready and have answered."""
    roots = {"OFFGRIDD_STORE_ROOTS": str(lab.file.root)} if lab.file.root else {}
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), env=roots)
        made = {name: {"source": dict(lab.file.source), **keys} for name, keys in models.items()}
        listen = {"listen": [f"127.0.0.1:{rig.port}"]}
        # JSON is YAML.
        rig.manifest.write_text(json.dumps({"apiVersion": "offgridd/v1", "server": listen, "models": made}))
        try:
            rig.start()
            until(rig.is_ready, 120)
            for name in models:  # the first answer of a process is slow
                rig.api.chat.completions.create(model=name, messages=WARM, max_tokens=64)
            yield rig
        finally:
            rig.stop()
            rig.api.close()


@contextmanager
def arena(lab: Lab, shape: Shape, ours: Declared | None = None) -> Iterator[Arena]:
    """Ours, declared as the shape says or as `ours`, and both of theirs; those that are not asked take no CPU."""
    with ExitStack() as stack:
        rig = stack.enter_context(daemon(lab, {"smol": declared(shape) if ours is None else ours}))
        theirs = [
            Side("llama-server", stack.enter_context(llama_server(lab.programs, lab.file.path, shape, unified=unified)))
            for unified in (True, False)
        ]
        yield Arena(Side("offgridd", rig.port), *theirs)


async def better(lab: Lab, of: Arena, scene: Scene, question: Question, tries: int = TRIES) -> Contender:
    """llama-server with the kind of cache that is better in this scene, and what both gave."""
    found: dict[str, list[float]] = {"unified": [], "split": []}
    for side in (of.unified, of.split):  # as ours were
        await ask(side, WARM[0]["content"], 64)
    for _ in range(1 if lab.plan.quick else tries):
        turn = next(turns)
        for name, side in (("unified", of.unified), ("split", of.split)):
            found[name].append((await scene(side, turn))[question.key])
    middle = {name: statistics.median(values) for name, values in found.items()}
    best = (max if question.higher else min)(middle, key=lambda name: middle[name])
    side = of.unified if best == "unified" else of.split
    note = f"llama-server {best}: unified {middle['unified']:.3g}, split {middle['split']:.3g}"
    print(f"  {note} {question.unit}", flush=True)
    return Contender(on(side, scene), note)
