"""Who works on which blob, one at a time; and how much is still to be written, for those who look for room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import anyio

from offgridd.core.hub import as_sha256


class Holds:
    """Blobs by sha256, and copies that are being made by their names. For one event loop, but for `coming`."""

    def __init__(self) -> None:
        self._locks: dict[str, anyio.Lock] = {}
        self.coming: dict[str, int] = {}  # bytes that are still to be written

    @asynccontextmanager
    async def alone(self, digests: Iterable[str]) -> AsyncIterator[None]:
        """While it lasts nobody else writes these blobs."""
        async with AsyncExitStack() as stack:
            for sha256 in sorted(set(digests)):  # in one order: two models may share some
                await stack.enter_async_context(self._locks.setdefault(sha256, anyio.Lock()))
            yield

    @contextmanager
    def reserved(self, name: str) -> Iterator[bool]:
        """Whether nobody fetches or verifies it; then nobody begins to while this lasts."""
        lock = self._locks.setdefault(name, anyio.Lock())
        try:
            lock.acquire_nowait()
        except anyio.WouldBlock:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
            if as_sha256(name) is None:  # a name that never comes again
                del self._locks[name]

    def busy(self) -> set[str]:
        """What somebody fetches or verifies now, or waits for."""
        return {name for name, lock in self._locks.items() if lock.locked()} | self.coming.keys()

    def others(self, name: str) -> int:
        """Bytes that are still to be written of all else. In any thread."""
        return sum(left for of, left in tuple(self.coming.items()) if of != name)
