"""The loop with files and workers of a script, in fake time: what it starts, when again, and what it cancels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.abc
import pytest
from support.ports import BAD, Files, Workers, now

from offgridd.core import events as ev
from offgridd.core.actions import StartWorker
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec
from offgridd.core.readiness import all_ready
from offgridd.reconcile.loop import RESYNC, Reconciler

pytestmark = pytest.mark.looptime
A = ModelSpec("a", FileSource("/m/a.gguf"))


class Desk:
    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.files = Files()
        self.loop = Reconciler(self.files, group, "engine", clock=now)
        self.loop.workers = self.workers = Workers(self.loop.emit)
        self.generation = 0

    def want(self, *specs: ModelSpec) -> None:
        self.generation += 1
        self.loop.emit(Desired(self.generation, str(self.generation), models={s.name: s for s in specs}))

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(1000):
            while not true():
                await self.loop.next_change()

    def ready(self) -> bool:
        snapshot = self.loop.snapshot
        return snapshot.observed_generation == self.generation and all_ready(snapshot.desired, snapshot.observed)

    def times(self) -> list[int]:
        return [round(at) for at, _ in self.files.verified]


@asynccontextmanager
async def running() -> AsyncIterator[Desk]:
    async with anyio.create_task_group() as group:
        desk = Desk(group)
        group.start_soon(desk.loop.run)
        yield desk
        group.cancel_scope.cancel()


async def test_it_verifies_and_then_starts() -> None:
    async with running() as desk:
        desk.files.takes = 5
        desk.want(A)
        await desk.until(desk.ready)
        assert desk.files.verified == [(0, "/m/a.gguf")]
        assert desk.workers.started == [(5, "a", None)]
        assert now() == 6


async def test_what_is_as_declared_is_left_alone() -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        await anyio.sleep(1000)
        desk.want(replace(A, description="live"))
        await desk.until(desk.ready)
        await anyio.sleep(1000)
        assert (len(desk.files.verified), len(desk.workers.started), desk.workers.ended) == (1, 1, [])


async def test_a_failure_is_tried_again_after_growing_pauses_and_never_between() -> None:
    async with running() as desk:
        desk.files.disk.clear()
        desk.want(A)
        await anyio.sleep(310)
        assert desk.times() == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303]
        desk.files.disk["/m/a.gguf"] = 1
        await desk.until(desk.ready)
        assert desk.times()[-1] == 363


async def test_other_events_bring_no_try_forward() -> None:
    async with running() as desk:
        desk.files.disk.clear()
        desk.want(A)
        for _ in range(40):  # until second 4
            await anyio.sleep(0.1)
            desk.loop.emit(ev.Listening(True))
            desk.loop.look_again()
        assert desk.times() == [0, 1, 3]


@pytest.mark.parametrize("model", ["a", None])
async def test_reconcile_tries_at_once_and_counts_anew(model: str | None) -> None:
    async with running() as desk:
        desk.files.disk.clear()
        desk.want(A)
        await anyio.sleep(20)  # the next try is at 31
        desk.loop.emit(ev.Reconsidered(model))
        await anyio.sleep(4)
        assert desk.times() == [0, 1, 3, 7, 15, 20, 21, 23]


async def test_an_edit_of_what_failed_tries_at_once() -> None:
    async with running() as desk:
        desk.files.disk = {"/m/b.gguf": 2}
        desk.want(A)
        await anyio.sleep(20)
        desk.want(replace(A, source=FileSource("/m/b.gguf")))
        await desk.until(desk.ready)
        assert desk.files.verified[-1] == (20, "/m/b.gguf")


async def test_of_ten_desired_states_while_it_is_busy_only_the_newest_counts() -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        for context in range(1, 11):
            desk.want(replace(A, load=LoadSpec(context=context)))
        await desk.until(desk.ready)
        assert [context for _, _, context in desk.workers.started] == [None, 10]
        assert desk.workers.ended == [1]
        assert desk.loop.snapshot.observed_generation == 11


async def test_the_old_worker_goes_when_the_new_one_is_ready() -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        desk.workers.takes = 10
        desk.want(replace(A, load=LoadSpec(context=64)))
        await anyio.sleep(9)
        assert desk.workers.ended == []
        await desk.until(desk.ready)
        await desk.until(lambda: len(desk.loop.snapshot.observed.of("a").workers) == 1)
        assert desk.workers.ended == [1]


async def test_an_edit_that_makes_a_running_action_void_cancels_it() -> None:
    async with running() as desk:
        desk.files.takes = desk.workers.takes = 100
        desk.want(A)
        await anyio.sleep(10)
        desk.want(replace(A, source=FileSource("/m/b.gguf")))
        await anyio.sleep(110)
        desk.want(replace(A, source=FileSource("/m/b.gguf"), load=LoadSpec(context=64)))
        await desk.until(desk.ready)
        assert desk.files.verified == [(0, "/m/a.gguf"), (10, "/m/b.gguf")]
        assert desk.workers.started == [(110, "a", None), (120, "a", 64)]
        assert desk.workers.ended == [1]


async def test_a_model_that_is_removed_while_it_loads_is_gone_at_once() -> None:
    async with running() as desk:
        desk.workers.takes = 1000
        desk.want(A)
        await anyio.sleep(10)
        desk.want()
        await desk.until(lambda: not desk.loop.snapshot.observed.models)
        assert (now(), desk.workers.ended, desk.loop.snapshot.observed.running) == (10, [1], {})


@pytest.mark.parametrize("other", [7, None], ids=["another file", "gone and back"])
async def test_a_file_that_drifts_is_verified_again(other: int | None) -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        if other is None:
            del desk.files.disk["/m/a.gguf"]
        desk.files.disk |= {"/m/a.gguf": other} if other else {}
        await desk.until(lambda: len(desk.files.verified) > 1)
        assert now() == RESYNC
        desk.files.disk["/m/a.gguf"] = other or 1
        await desk.until(desk.ready)
        assert len(desk.workers.started) == (2 if other else 1)  # the same bytes need no other worker


async def test_a_look_is_taken_when_it_is_asked_for() -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        desk.files.disk["/m/a.gguf"] = 7
        desk.loop.look_again()
        await desk.until(lambda: len(desk.files.verified) > 1)
        assert now() < RESYNC


async def test_a_terminal_failure_waits_for_a_word() -> None:
    async with running() as desk:
        desk.files.disk.clear()
        desk.files.failure = replace(BAD, terminal=True)
        desk.want(A)
        await anyio.sleep(500)
        desk.loop.emit(ev.Reconsidered("a"))
        await anyio.sleep(500)
        assert desk.times() == [0, 500]


async def test_a_look_at_a_file_that_was_replaced_meanwhile_says_nothing() -> None:
    async with running() as desk:
        desk.want(A)
        await desk.until(desk.ready)
        desk.files.look_takes = 5
        await anyio.sleep(RESYNC)
        desk.want(replace(A, source=FileSource("/m/b.gguf")))
        await anyio.sleep(20)
        assert [path for _, path in desk.files.verified] == ["/m/a.gguf", "/m/b.gguf"]
        assert desk.ready()


async def test_a_removed_model_drains_for_as_long_as_it_said() -> None:
    async with running() as desk:
        desk.want(replace(A, drain=1.5))
        await desk.until(desk.ready)
        desk.want()
        await desk.until(lambda: desk.workers.ended == [1])
        assert desk.workers.drains == [1.5]


async def test_a_new_limit_of_the_cache_is_told_once_to_the_worker_that_serves() -> None:
    async with running() as desk:
        desk.want(replace(A, cache_ram=9))
        await desk.until(desk.ready)
        desk.want(replace(A, cache_ram=5))
        await desk.until(lambda: bool(desk.workers.limits))
        await anyio.sleep(1000)
        assert (desk.workers.limits, len(desk.workers.started), desk.workers.ended) == ([(1, 5)], 1, [])
        assert len(desk.files.verified) == 1


async def test_who_has_said_something_hears_when_it_was_taken_in() -> None:
    """Also where a pass is just under way, which does not know of it: what begins in a pass runs before its end."""
    seen: list[bool] = []
    async with running() as desk:
        start = desk.workers.start

        async def told(action: StartWorker) -> None:
            desk.loop.emit(ev.Unloaded("a"))
            await desk.loop.heard()
            seen.append(desk.loop.snapshot.observed.of("a").leaving)
            await start(action)

        desk.workers.start = told  # type: ignore[method-assign]
        desk.want(A)
        await desk.until(desk.ready)
    assert seen == [True]
