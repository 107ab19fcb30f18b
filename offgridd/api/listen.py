"""Listening sockets and the servers on them. The only door to Hypercorn."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from offgridd.api import framing

log = logging.getLogger("offgridd")
BACKLOG = 4096
LAST_BYTES = 2.0  # seconds to send what is left when the daemon ends; requests were drained before
OUTLIVES = 3600.0  # seconds that a stream may go on after its listener was taken out of the manifest


class BindError(Exception):
    """The address can not be listened on; the text says why."""


@dataclass
class Listener:
    """One socket's server."""

    config: Config
    closing: anyio.Event

    def close(self, within: float) -> None:
        """Takes no more connections; those that are open have so many seconds."""
        self.config.graceful_timeout = within
        self.closing.set()


class Listeners:
    """Serves `app()` on each address of the manifest, in tasks of `group`; one writer, so no two calls at a time."""

    def __init__(self, group: anyio.abc.TaskGroup, app: Callable[[], Quart]) -> None:
        self._group, self._app = group, app
        self._open: dict[str, Listener] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._open)

    async def follow(self, listen: tuple[str, ...]) -> None:
        """Binds what is new, then closes what is asked for no more. Raises BindError and then nothing has changed."""
        made: dict[str, socket.socket] = {}
        try:
            for address in listen:
                if address not in self._open:
                    made[address] = await anyio.to_thread.run_sync(bind, address)  # a name may have to be looked up
        except BindError:
            for sock in made.values():
                sock.close()
            raise
        for address, sock in made.items():
            self._open[address] = start(self._group, self._app(), sock)
        for address in [a for a in self._open if a not in listen]:
            self._open.pop(address).close(OUTLIVES)

    def close(self) -> None:
        """All of them, for the end."""
        for listener in self._open.values():
            listener.close(LAST_BYTES)


def start(group: anyio.abc.TaskGroup, app: Quart, sock: socket.socket) -> Listener:
    """Serves `app` on a socket that listens already."""
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.backlog = BACKLOG
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = log
    framing.install()
    listener = Listener(config, anyio.Event())

    async def run() -> None:
        sock.detach()  # serve() makes a socket of its own of the descriptor, and closes it
        await serve(app, config, shutdown_trigger=listener.closing.wait)

    group.start_soon(run)
    return listener


def bind(address: str) -> socket.socket:
    """A TCP socket that listens. Raises BindError."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, proto, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] beside 0.0.0.0 on one port
            sock.bind(place)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        text = f"cannot listen on {address}: {error.strerror}; change server.listen or stop the other"
        raise BindError(text) from error
    return sock


def bind_admin(path: Path, group: str | None) -> socket.socket:
    """The admin socket, for its owner and `group` (None: the service's own). Raises BindError.

    A file that is there already is ours: whoever calls holds the lock of the state directory.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if path.parent.stat().st_uid not in (0, os.geteuid()):
            raise PermissionError(f"{path.parent} belongs to another user")
        path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # never open to others, not even between the next two calls
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            shutil.chown(path, group=group)
        os.chmod(path, 0o660)
        sock.listen(BACKLOG)
    except (OSError, LookupError) as error:
        raise BindError(f"cannot make the admin socket {path}: {error}") from error
    return sock
