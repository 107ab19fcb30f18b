"""Listening sockets and the servers on them. The door to Hypercorn, with `framing`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.abc
import anyio.to_thread
from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets
from quart import Quart

from offgridd.api import framing
from offgridd.api.sockets import BACKLOG, BindError, bind, bind_admin

__all__ = ["LAST_BYTES", "OUTLIVES", "BindError", "Listener", "Listeners", "bind", "bind_admin", "start"]

log = logging.getLogger("offgridd")
LAST_BYTES = 2.0  # seconds to send what is left when the daemon ends; requests were drained before
OUTLIVES = 3600.0  # seconds that a stream may go on after its listener was taken out of the manifest


class _Served(socket.socket):
    """A listening socket that says when it has been closed, which frees its address."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.closed = anyio.Event()

    def listen(self, _backlog: int = 0, /) -> None:
        """asyncio's number is also how often it calls accept(2) in a row, even where descriptors have run out."""
        super().listen(BACKLOG)

    def close(self) -> None:
        super().close()
        self.closed.set()


class _Config(Config):
    """Serves on one socket that is open already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._sock = sock

    def create_sockets(self) -> Sockets:
        return Sockets([], [self._sock], [])


@dataclass
class Listener:
    """One socket's server."""

    config: Config
    sock: _Served
    closing: anyio.Event

    def pause(self) -> None:
        """Takes no more connections, and leaves those that it has alone."""
        asyncio.get_running_loop().remove_reader(self.sock)

    def close(self, within: float) -> None:
        """Takes no more connections; those that are open have so many seconds, those that are idle none."""
        self.config.graceful_timeout = within
        self.closing.set()

    async def freed(self) -> None:
        """Until its address can be bound again; call `close` before."""
        await self.sock.closed.wait()


class Listeners:
    """Serves `app()` on each address of the manifest, in tasks of `group`; one writer, so no two calls at a time.

    Where sockets are `inherited` it serves on those alone, from the first call on.
    """

    def __init__(
        self, group: anyio.abc.TaskGroup, app: Callable[[], Quart], inherited: Mapping[str, socket.socket] | None = None
    ) -> None:
        self._group, self._app, self._inherited = group, app, dict(inherited or {})
        self._open: dict[str, Listener] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._open)

    async def follow(self, listen: tuple[str, ...]) -> None:
        """Binds what is new, then closes what is asked for no more. Raises BindError and then nothing has changed."""
        if self._inherited:
            for address in self._inherited.keys() - self._open.keys():
                self._start(address, self._inherited[address])
            return
        made: dict[str, socket.socket] = {}
        freed: list[str] = []
        leaving = [address for address in self._open if address not in listen]
        try:
            for address in listen:
                if address not in self._open:
                    made[address] = await self._bind(address, leaving, freed)
        except BindError:
            for sock in made.values():
                sock.close()
            await self._restore(freed)
            raise
        for address, sock in made.items():
            self._start(address, sock)
        for address in leaving:
            if address in self._open:
                self._open.pop(address).close(OUTLIVES)

    def _start(self, address: str, sock: socket.socket) -> None:
        self._open[address] = start(self._group, self._app(), sock)

    async def _bind(self, address: str, leaving: Sequence[str], freed: list[str]) -> socket.socket:
        """One of `leaving` that is in the way, as 127.0.0.1 is in that of 0.0.0.0, is closed first: see `freed`."""
        try:
            return await anyio.to_thread.run_sync(bind, address)  # a name may have to be looked up
        except BindError as error:
            in_the_way = [a for a in leaving if a in self._open and _port(a) == _port(address)]
            if not error.in_use or not in_the_way:
                raise
        for old in in_the_way:
            listener = self._open.pop(old)
            listener.close(OUTLIVES)
            await listener.freed()
            freed.append(old)
        return await anyio.to_thread.run_sync(bind, address)

    async def _restore(self, addresses: Sequence[str]) -> None:
        for address in addresses:
            try:
                self._start(address, await anyio.to_thread.run_sync(bind, address))
            except BindError as error:
                log.error("it was ours until now: %s", error)

    def pause(self) -> None:
        """Who connects from now on waits for whoever serves the socket next."""
        for listener in self._open.values():
            listener.pause()

    def close(self, within: float = LAST_BYTES) -> None:
        """All of them, for the end: no more connections are taken, those that are open have so many seconds."""
        for listener in self._open.values():
            listener.close(within)


def start(group: anyio.abc.TaskGroup, app: Quart, sock: socket.socket) -> Listener:
    """Serves `app` on a socket that listens already."""
    served = _Served(sock)
    config = _Config(served)
    config.backlog = 1  # of accept(2) in a row; each that fails for want of descriptors is a log line and a timer
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = log
    framing.install()
    listener = Listener(config, served, anyio.Event())

    async def run() -> None:
        await serve(app, config, shutdown_trigger=listener.closing.wait)

    group.start_soon(run)
    return listener


def _port(address: str) -> str:
    return address.rpartition(":")[2]
