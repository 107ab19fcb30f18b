"""Bytes that go from a socket to a file without coming by here: over a pipe, by Linux's splice.

That saves a copy to us and one back, half of what a plain transfer costs the processor. A socket with TLS has to be
read, and so has any on a system without splice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 512 << 10  # bytes in the pipe
POSSIBLE = hasattr(os, "splice")


class Piped:
    """`len()` bytes in a pipe, to be written once."""

    __slots__ = ("_count", "_pipe")

    def __init__(self, pipe: int, count: int) -> None:
        self._pipe, self._count = pipe, count

    def __len__(self) -> int:
        return self._count

    def read(self) -> bytes:
        """All of them. Raises OSError."""
        found = bytearray()
        while len(found) < self._count:
            found += os.read(self._pipe, self._count - len(found))
        return bytes(found)

    def into(self, fd: int, at: int) -> None:
        """Writes all of them to a file. Raises OSError."""
        left = self._count
        while left:
            try:
                moved = os.splice(self._pipe, fd, left, offset_dst=at)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file system that can not splice
                    raise
                moved = os.pwrite(fd, os.read(self._pipe, left), at)
            left, at = left - moved, at + moved


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Both its ends, to read and to write. Raises OSError."""
    ends = os.pipe()
    try:
        with contextlib.suppress(OSError):  # more than this user may have of them: a smaller one works, too
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, AT_ONCE)
        yield ends
    finally:
        for end in ends:
            os.close(end)


def fill(pipe: int, source: socket.socket, most: int) -> int:
    """Waits for bytes of the socket, as long as its timeout says, and moves what there is; 0 at its end.

    Raises OSError, TimeoutError.
    """
    while True:
        try:
            return os.splice(source.fileno(), pipe, min(most, AT_ONCE))
        except BlockingIOError:  # a socket with a timeout does not block
            ready, wait = select.poll(), source.gettimeout()
            ready.register(source, select.POLLIN)
            if not ready.poll(None if wait is None else wait * 1000):
                raise TimeoutError("the server is silent") from None
