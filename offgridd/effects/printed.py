"""What a worker writes to stderr: read for ever, its end kept, and none of it a command to a terminal."""

from __future__ import annotations

import contextlib

import anyio
import anyio.abc

TAIL = 8192  # bytes kept for the condition's message


class Printed:
    """The end of a process's stderr."""

    def __init__(self) -> None:
        self._tail = bytearray()

    async def drain(self, stream: anyio.abc.ByteReceiveStream) -> None:
        """Until it ends, so that no full pipe blocks its writer."""
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            async for chunk in stream:
                self._tail += chunk
                del self._tail[:-TAIL]

    @property
    def text(self) -> str:
        """At most TAIL bytes of it, with what could move a terminal's cursor replaced."""
        lines = self._tail.decode("utf-8", "replace").splitlines()
        return "\n".join(printable(line.rstrip()) for line in lines)

    def behind(self, text: str) -> str:
        """`text`, and the last lines after it."""
        lines = [line.strip()[:200] for line in self.text.splitlines() if line.strip()]
        return f"{text}: {' | '.join(lines[-3:])}" if lines else text


def printable(text: str) -> str:
    """What a worker says comes from the file in the end: nothing in it may move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
