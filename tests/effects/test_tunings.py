"""What tuning found outlives the daemon, is in effect from the first pass on, and goes when nothing is tuned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from support.ports import Files, Workers

from offgridd.core import events as ev
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.desired import Desired, FileSource, ModelSpec
from offgridd.core.judging import Interval
from offgridd.core.observed import HostFacts
from offgridd.core.tuned import TUNABLE, Tried, Tuning
from offgridd.effects.state import State
from offgridd.effects.tunings import Tunings
from offgridd.effects.updates import Now
from offgridd.reconcile.loop import Reconciler

MODEL = ModelSpec("m", FileSource("/m.gguf"), benchmark=BenchmarkSpec(tune="apply"), tunable=TUNABLE)
TRIED = Tried(
    "threads",
    2,
    (("flash_attention", False), ("threads", 2)),
    "better",
    "",
    20,
    (("prompt_tps", Interval(1.1, 1.2, 1.3)),),
    4.5,
)
FOUND = (("flash_attention", False), ("threads", 2))
TUNING = Tuning("k", "here", (), FOUND, FOUND, (TRIED,), done=True, why="it is faster")


@asynccontextmanager
async def life(state: State, spec: ModelSpec) -> AsyncIterator[Reconciler]:
    async with anyio.create_task_group() as group:
        loop = Reconciler(Files(), group, "engine", host=lambda: HostFacts(kind="here"))
        loop.workers = Workers(loop.emit)
        now = Now(
            lambda: loop.snapshot.desired, lambda: loop.snapshot.observed, loop.emit, loop.next_change, loop.heard
        )
        tunings = Tunings(now, state.tunings)
        loop.emit(Desired(1, "1", models={spec.name: spec}))
        group.start_soon(tunings.run)
        group.start_soon(loop.run)
        await loop.heard()
        yield loop
        group.cancel_scope.cancel()


async def until_kept(state: State, loop: Reconciler, wanted: dict[str, Tuning]) -> None:
    with anyio.fail_after(20):
        while state.tunings.all() != wanted:
            await loop.beat()


async def test_what_was_found_is_in_effect_in_the_next_life_until_it_is_tuned_no_more(tmp_path: Path) -> None:
    state = State(tmp_path)
    async with life(state, MODEL) as loop:
        assert loop.snapshot.desired.models["m"] == MODEL
        loop.emit(ev.Tuned("m", replace(TUNING, again=9.0)))
        await until_kept(state, loop, {"m": TUNING})
        assert loop.snapshot.desired.models["m"].tuned == FOUND
    async with life(state, MODEL) as loop:
        spec = loop.snapshot.desired.models["m"]
        assert (spec.load.threads, spec.load.placement.flash_attention) == (2, False)
        loop.emit(Desired(2, "2", models={"m": replace(MODEL, description="edited")}))
        await loop.heard()
        assert loop.snapshot.desired.models["m"] == replace(spec, description="edited")
        loop.emit(ev.Retuned("m"))
        await until_kept(state, loop, {"m": replace(TUNING, key="", done=False)})
        assert loop.snapshot.desired.models["m"].tuned == FOUND
        silent = replace(MODEL, benchmark=BenchmarkSpec(), tunable=())
        loop.emit(Desired(3, "3", models={"m": silent}))
        await until_kept(state, loop, {})
        assert loop.snapshot.desired.models["m"] == silent
        loop.emit(Desired(4, "4", models={"m": MODEL}))
        await loop.heard()
        assert loop.snapshot.desired.models["m"] == MODEL, "it begins anew"
    state.close()


@pytest.mark.parametrize(
    "damaged",
    [
        replace(TUNING, found=(("threads", "many"),)),
        replace(TUNING, found=(("threads", True),)),
        replace(TUNING, found=(("flash_attention", 0),)),
        replace(TUNING, found=(("cache_type_k", "q1_1"),)),
        replace(TUNING, start=(("depth", 5),)),
        replace(TUNING, tried=(), done=False),
        replace(TUNING, tried=(replace(TRIED, result="same"),), done=False),
    ],
)
async def test_what_no_search_could_have_made_is_not_used_and_is_forgotten(tmp_path: Path, damaged: Tuning) -> None:
    state = State(tmp_path)
    state.tunings.keep("m", damaged)
    async with life(state, MODEL) as loop:
        assert loop.snapshot.desired.models["m"] == MODEL
        assert loop.snapshot.observed.tunings == {}
        await until_kept(state, loop, {})
    state.close()
