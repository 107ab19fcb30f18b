"""A socket over which somebody hands over open files: each message is a line of JSON with its descriptors."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
import msgspec

T = TypeVar("T")
MOST_LINE = 1 << 18  # bytes
MOST_FILES = 128  # of one message
PATIENCE = 60.0  # seconds of silence; what is handed over is opened before
_MOST_AT_ONCE = 253  # descriptors that Linux sends in one message


class BadMessage(Exception):
    """The text says what is wrong; nothing more can be read."""


@dataclass
class Message(Generic[T]):
    """`offer`: what is said of the files; `why` says what is wrong with that, if something is."""

    offer: T | None
    descriptors: list[int]
    why: str = ""

    def close(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


class Handover(Generic[T]):
    """`sock` is connected and does not block; `kind` is what is said of the files of a message."""

    def __init__(self, sock: socket.socket, kind: type[T]) -> None:
        self._sock, self._kind = sock, kind

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Message[T] | None]:
        """The next message, whose descriptors are closed afterwards; None at the end. Raises BadMessage."""
        message = Message[T](None, [])
        try:
            line = await self._line(message.descriptors)
            if line:
                try:
                    message.offer = msgspec.json.decode(line, type=self._kind)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    message.why = str(error)
            yield message if line else None
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(message.close)  # some file systems take their time

    async def answer(self, found: dict[str, Any]) -> None:
        """Raises BadMessage where nobody reads it."""
        view = memoryview(msgspec.json.encode(found) + b"\n")
        try:
            with anyio.fail_after(PATIENCE):
                while view:
                    await anyio.wait_writable(self._sock)
                    view = view[self._sock.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
        except (OSError, TimeoutError) as error:
            raise BadMessage("who hands over has left") from error

    async def _line(self, descriptors: list[int]) -> bytes:
        data = b""
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        while not data.endswith(b"\n"):
            try:
                with anyio.fail_after(PATIENCE):
                    await anyio.wait_readable(self._sock)
                piece, came, said, _ = socket.recv_fds(self._sock, 1 << 16, _MOST_AT_ONCE, flags)
            except BlockingIOError:
                continue
            except TimeoutError:
                raise BadMessage(f"nothing came for {PATIENCE:.0f} s") from None
            except OSError as error:
                raise BadMessage(f"it broke off: {error.strerror}") from error
            descriptors += came
            if said & socket.MSG_CTRUNC or len(descriptors) > MOST_FILES:
                raise BadMessage(f"too many files came at once; there may be {MOST_FILES}")
            if not piece and data:
                raise BadMessage("it broke off within a line")
            if not piece:
                return b""
            data += piece
            if len(data) > MOST_LINE or b"\n" in data[:-1]:
                raise BadMessage("a line is too long, or more than one came at once")
        return data


def size_of(descriptor: int) -> int | None:
    """Bytes of a regular file; None of anything else."""
    about = os.fstat(descriptor)
    return about.st_size if stat.S_ISREG(about.st_mode) else None
