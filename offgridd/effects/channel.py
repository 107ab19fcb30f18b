"""The daemon's end of a worker's socket, and where each request's frames wait for their reader.

A plain asyncio protocol: a token must reach its stream in one turn of the event loop. Reading through anyio's streams
took half a millisecond of processor time a token at the pace of a real model, from cores that the model wants.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from offgridd.engine import wire

UNSENT = 64 << 20  # bytes that may wait for a worker which does not read
T = TypeVar("T")


class ChannelClosed(Exception):
    """The worker has gone, or does not read."""


class Channel(asyncio.Protocol):
    """`took` gets each frame, `lost` is called once, with what was wrong or None; neither may raise."""

    def __init__(self, took: Callable[[wire.FromWorker], None], lost: Callable[[wire.WireError | None], None]) -> None:
        self._took, self._lost = took, lost
        self._error: wire.WireError | None = None
        self._splitter = wire.Splitter()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(
        cls,
        sock: socket.socket,
        took: Callable[[wire.FromWorker], None],
        lost: Callable[[wire.WireError | None], None],
    ) -> Channel:
        loop = asyncio.get_running_loop()
        return (await loop.create_unix_connection(lambda: cls(took, lost), sock=sock))[1]

    def send(self, frame: wire.Frame, *, always: bool = False) -> None:
        """Returns at once; the frame goes whole or not at all; `always`: however much waits. Raises ChannelClosed."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ChannelClosed
        if not always and transport.get_write_buffer_size() > UNSENT:
            raise ChannelClosed
        transport.write(wire.encode(frame))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._splitter.feed(data):
                self._took(wire.from_worker(body))
        except wire.WireError as error:
            self._error = error
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._lost(self._error)


class Mailbox(Generic[T]):
    """What came, for one reader; None after `quiet` seconds in which nothing came."""

    def __init__(self, quiet: float) -> None:
        self._items: deque[T | None] = deque()
        self._loop, self._quiet = asyncio.get_running_loop(), quiet
        self._waiter: asyncio.Future[None] | None = None
        self._last = self._loop.time()
        self._timer = self._loop.call_later(quiet, self._tick)

    def put(self, item: T | None) -> None:
        self._items.append(item)
        self._last = self._loop.time()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> T | None:
        while not self._items:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._items.popleft()

    def close(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        """One timer for all of the stream's life: setting one for each item would cost more than the item."""
        left = self._last + self._quiet - self._loop.time()
        if left <= 0:
            self.put(None)
        self._timer = self._loop.call_later(left if left > 0 else self._quiet, self._tick)
