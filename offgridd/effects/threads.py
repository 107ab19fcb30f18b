"""Work in a thread that can be called off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


async def interruptible(run: Callable[[], T], stop: Callable[[], None], turn: AbstractAsyncContextManager[object]) -> T:
    """What `run` gives, in a thread and within `turn`.

    Cancelled, it calls `stop`, which must make `run` end soon, and waits for that.
    """
    found: list[T] = []
    failed: list[BaseException] = []
    began = False

    def inside() -> None:
        try:
            found.append(run())
        except BaseException as error:
            failed.append(error)

    async def shielded(scope: anyio.CancelScope) -> None:
        nonlocal began
        async with turn:  # until here there is nothing to stop
            began = True
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(inside, limiter=anyio.CapacityLimiter(1))
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(shielded, group.cancel_scope)
        try:
            await anyio.sleep_forever()
        finally:
            if began and not found and not failed:
                stop()
    await anyio.lowlevel.checkpoint_if_cancelled()
    if failed:
        raise failed[0]
    return found[0]
