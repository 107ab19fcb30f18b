"""A reader of the manifest that is told by `effects.watch` when to look, as the daemon is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from offgridd.effects import source
from offgridd.effects.watch import hints

NEVER = 3600.0  # seconds between looks: too long to help
SOON = 0.02


class Reader:
    """Reads at each hint and keeps what it saw."""

    def __init__(self, path: Path, tick: float) -> None:
        self.path, self.tick, self.text, self.hints = path, tick, "unread", 0
        self.reports: list[str] = []
        self._news = anyio.Event()

    async def run(self) -> None:
        async with aclosing(hints(self.path, self.reports.append, self.tick)) as told:
            async for _ in told:
                self.hints += 1
                self.text = read(self.path)
                self._news.set()
                self._news = anyio.Event()

    async def until(self, true: Callable[[], bool]) -> None:
        with anyio.fail_after(5):
            while not true():
                await self._news.wait()

    async def sees(self, text: str) -> None:
        await self.until(lambda: self.text == text)
        await self.waits()

    async def waits(self) -> None:
        """Until it listens: from then on only an event can tell it of an edit."""
        while not anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await anyio.lowlevel.checkpoint()


def read(path: Path) -> str:
    try:
        return "+".join(text.decode() for _, text in source.read(path))
    except OSError:
        return "missing"


@asynccontextmanager
async def reading(path: Path, tick: float = NEVER) -> AsyncIterator[Reader]:
    reader = Reader(path, tick)
    async with anyio.create_task_group() as group:
        group.start_soon(reader.run)
        await reader.until(lambda: reader.hints > 0)
        if tick == NEVER:
            await reader.waits()
        yield reader
        group.cancel_scope.cancel()
