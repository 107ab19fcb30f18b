"""Files that a client hands over as open descriptors: over a Unix socket that is made for it and good for one client.

HTTP can not carry a descriptor. Whoever may connect has opened the file himself, so nothing is read or written here
that he could not read or write. One message is JSON of what the file is, with one descriptor; an empty one ends it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import secrets
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST = 64 << 10  # bytes of a message
PATIENCE = 30.0  # seconds in which the client must come, and send each message
_ROOM = socket.CMSG_SPACE(array.array("i").itemsize)


class HandingError(Exception):
    """The text says why nothing more comes."""


@dataclass(frozen=True, slots=True)
class Handed:
    """`fd` belongs to who takes it."""

    about: dict[str, Any]
    fd: int


class Desk:
    """Where files are handed over. `like`: the socket beside which it is made, with its mode and group."""

    def __init__(self, like: Path) -> None:
        """Raises OSError."""
        self.path = like.with_name(f"hand-{secrets.token_hex(6)}.sock")
        self._ends = socket.socketpair()  # closing one wakes who waits
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            before = os.umask(0o177)
            try:
                self._server.bind(str(self.path))
            finally:
                os.umask(before)
            found = like.stat()
            os.chown(self.path, -1, found.st_gid)
            os.chmod(self.path, found.st_mode & 0o777)
            self._server.listen(1)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Ends `take` in the other thread."""
        with contextlib.suppress(OSError):
            self._ends[1].send(b"x")

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        for one in (self._server, *self._ends):
            one.close()

    def take(self) -> Iterator[Handed]:
        """What the one client hands over, in its order; blocking. Raises HandingError, OSError."""
        self._wait(self._server)
        client, _ = self._server.accept()
        self.path.unlink(missing_ok=True)
        self._server.close()
        with client:
            while True:
                self._wait(client)
                found = _received(client)
                if found is None:
                    return
                yield found

    def _wait(self, sock: socket.socket) -> None:
        ready, _, _ = select.select([sock, self._ends[0]], [], [], PATIENCE)
        if self._ends[0] in ready:
            raise HandingError("cannot go on: it was called off")
        if not ready:
            raise HandingError(f"cannot wait longer: nothing was handed over in {PATIENCE:g} s")


def _received(client: socket.socket) -> Handed | None:
    """None at the end."""
    data, ancillary, flags, _ = client.recvmsg(MOST, _ROOM)
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    if not data and not fds:
        return None
    try:
        about = json.loads(data) if not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) else None
    except (ValueError, RecursionError):
        about = None
    if not isinstance(about, dict) or len(fds) != 1:
        for fd in fds:
            os.close(fd)
        raise HandingError("cannot read what is handed over: it is no description with one file")
    os.set_inheritable(fds[0], False)
    return Handed(about, fds[0])
