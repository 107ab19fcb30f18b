"""What was measured outlives the daemon, and goes with its model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from support.ports import Files, Workers

from offgridd.core import events as ev
from offgridd.core.desired import Desired, FileSource, ModelSpec
from offgridd.effects.peaks import Peaks
from offgridd.effects.state import State
from offgridd.effects.updates import Now
from offgridd.reconcile.loop import Reconciler

A, B = (ModelSpec(name, FileSource(f"/m/{name}.gguf")) for name in "ab")


@asynccontextmanager
async def life(state: State, *specs: ModelSpec) -> AsyncIterator[Reconciler]:
    """A loop and what keeps its peaks, after the first pass."""
    async with anyio.create_task_group() as group:
        loop = Reconciler(Files(), group, "engine")
        loop.workers = Workers(loop.emit)
        now = Now(
            lambda: loop.snapshot.desired, lambda: loop.snapshot.observed, loop.emit, loop.next_change, loop.heard
        )
        peaks = Peaks(now, state.peaks)
        loop.emit(Desired(1, "1", models={spec.name: spec for spec in specs}))
        group.start_soon(peaks.run)
        group.start_soon(loop.run)
        await loop.heard()
        yield loop
        group.cancel_scope.cancel()


async def until_kept(state: State, loop: Reconciler, wanted: dict[str, dict[str, int]]) -> None:
    with anyio.fail_after(20):
        while state.peaks.all() != wanted:
            await loop.beat()


async def test_what_was_measured_is_known_in_the_next_life(tmp_path: Path) -> None:
    state = State(tmp_path)
    async with life(state, A, B) as loop:
        loop.emit(ev.Measured("a", "one", 100))
        loop.emit(ev.Measured("a", "two", 50))
        loop.emit(ev.Measured("a", "one", 70))
        loop.emit(ev.Measured("b", "one", 7))
        await until_kept(state, loop, {"a": {"one": 100, "two": 50}, "b": {"one": 7}})
    async with life(state, A) as loop:
        assert loop.snapshot.observed.of("a").peaks == {"one": 100, "two": 50}
        await until_kept(state, loop, {"a": {"one": 100, "two": 50}})
    state.close()
