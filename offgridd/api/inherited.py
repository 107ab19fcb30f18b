"""Sockets that the service manager listens on for us: sd_listen_fds(3).

It keeps them open while we are restarted: who connects meanwhile waits in the backlog for the next of us.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from offgridd.api.sockets import BindError

FIRST = 3  # SD_LISTEN_FDS_START


def take(environ: MutableMapping[str, str] | None = None) -> dict[str, socket.socket]:
    """By address; empty where there are none for this process. Raises BindError. No child inherits them again."""
    env = os.environ if environ is None else environ
    given, ours = env.pop("LISTEN_FDS", ""), env.pop("LISTEN_PID", "")
    env.pop("LISTEN_FDNAMES", None)
    if ours != str(os.getpid()) or not given.isdecimal():
        return {}
    found: dict[str, socket.socket] = {}
    for fd in range(FIRST, FIRST + int(given)):
        os.set_inheritable(fd, False)
        sock = _listening(fd)
        found[_address(sock)] = sock
    return found


def _listening(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
        good = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise BindError(f"cannot use the descriptor {fd} that was handed over: {error.strerror}") from error
    if not good or sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise BindError(f"cannot use the descriptor {fd} that was handed over: write ListenStream=HOST:PORT, Accept=no")
    sock.setblocking(False)
    return sock


def _address(sock: socket.socket) -> str:
    """As `server.listen` has it."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"
