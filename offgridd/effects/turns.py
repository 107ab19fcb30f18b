"""A few at once; of those who wait the most urgent is next."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import anyio


class Turns:
    """`most` at once. For one event loop."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: list[tuple[int, int, anyio.Event]] = []  # rank, who came first, and what wakes it
        self._number = count()

    @asynccontextmanager
    async def turn(self, rank: int) -> AsyncIterator[None]:
        """A lower `rank` is more urgent; among equals who came first is next."""
        await self._begin(rank)
        try:
            yield
        finally:
            self._end()

    async def _begin(self, rank: int) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            return
        woken = anyio.Event()
        entry = (rank, next(self._number), woken)
        heapq.heappush(self._waiting, entry)
        try:
            await woken.wait()
        except BaseException:
            if woken.is_set():
                self._end()  # it was our turn, and we leave
            else:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise

    def _end(self) -> None:
        """Hands the turn to the next one."""
        if self._waiting:
            heapq.heappop(self._waiting)[2].set()
        else:
            self._free += 1
