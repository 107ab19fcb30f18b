"""Whether this machine answers requests, of any model: what is measured waits until it does not, and ends when it does.

Told at once, not with the passes of the loop.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


class Traffic:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._open, self._ended = clock, 0, clock()  # what was before us nobody knows
        self._turn = anyio.Event()  # set with the next request that begins, or ends

    def add(self, by: int) -> None:
        """Requests begin (1) or end (-1)."""
        self._open += by
        if by < 0:
            self._ended = self._clock()
        turn, self._turn = self._turn, anyio.Event()
        turn.set()

    @property
    def idle(self) -> float:
        """Seconds since the last request ended; 0 while there is one."""
        return 0.0 if self._open else self._clock() - self._ended

    async def turns(self) -> None:
        """Until a request begins or ends."""
        await self._turn.wait()

    async def begins(self) -> None:
        """Until there is one."""
        while not self._open:
            await self._turn.wait()

    async def beside_none(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What comes of it; None where a request of any model came, or was there: those go first."""
        found: T | None = None
        async with anyio.create_task_group() as group:

            async def gives_way() -> None:
                await self.begins()
                group.cancel_scope.cancel()

            group.start_soon(gives_way)
            found = await work()
            group.cancel_scope.cancel()
        return found

    async def quiet(self, seconds: float) -> None:
        """Until there was none for so long."""
        while (idle := self.idle) < seconds or self._open:
            with anyio.move_on_after(None if self._open else seconds - idle):
                await self._turn.wait()
