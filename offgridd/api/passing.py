"""The frames of an answer; where a worker ends while the request still waits for it, the next one takes it over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import anyio
import anyio.lowlevel

from offgridd.api.answers import PING
from offgridd.api.completion import refusal
from offgridd.api.context import Context, WorkerPort
from offgridd.api.waiting import on_its_way
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.engine import wire


async def frames_of(
    ctx: Context, spec: ModelSpec, worker: WorkerPort, chats: Sequence[wire.Request], most: float
) -> AsyncGenerator[Any, None]:
    """As `WorkerProcess.stream`, for `most` seconds of waiting. Nobody sees twice that it was admitted.

    What was placed may be what ended the worker, and ends with it. So may what was not even admitted: it has two tries.
    """
    admitted: set[int] = set()
    until, again = anyio.current_time() + most, False
    while True:
        lost = None
        async with aclosing(worker.stream(chats, PING)) as frames:
            async for frame in frames:
                if isinstance(frame, wire.Refused) and frame.waiting and (admitted or not again):
                    lost = frame
                    break
                if not isinstance(frame, wire.Admitted) or frame.id not in admitted:
                    yield frame
                if isinstance(frame, wire.Admitted):
                    admitted.add(frame.id)
        if lost is None:
            return
        if ctx.loop.snapshot.observed.of(spec.name).leaving:  # somebody unloaded it by hand
            yield lost
            return
        again = True
        await anyio.lowlevel.checkpoint()  # that it has ended may still be to be heard: not to try it for ever
        try:
            async with aclosing(on_its_way(ctx, spec, until - anyio.current_time(), patient=True)) as coming:
                async for found in coming:
                    if found is None:
                        yield None
                    else:
                        worker = found
        except RequestRefused as error:
            yield wire.Refused(lost.id, error.status, error.code, str(error), retry_after=error.retry_after)
            return


async def once_admitted(frames: AsyncGenerator[Any, None], chats: Sequence[wire.Request]) -> AsyncGenerator[Any, None]:
    """The answer's frames, once the worker has admitted all: what it refuses still gets a status of its own."""
    early, left = list[Any](), {chat.id for chat in chats}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(aclosing(frames))
        while left:
            frame = await anext(frames)
            if isinstance(frame, wire.Refused):
                raise refusal(frame)
            if isinstance(frame, wire.Admitted | wire.Finish):
                left.discard(frame.id)
            early += [] if frame is None else [frame]  # None: it waits to be looked at
        stack.pop_all()
    return _again(early, frames)


async def _again(early: Sequence[Any], rest: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    async with aclosing(rest):
        for frame in early:
            yield frame
        async for frame in rest:
            yield frame
