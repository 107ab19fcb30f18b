"""Keeps what happened over restarts: condition transitions, a batch a second."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import anyio
import anyio.to_thread

log = logging.getLogger("offgridd")
PAUSE = 1.0  # seconds between two writes; a kill loses what came since the last


class StatePort(Protocol):
    def events(self) -> list[tuple[int, str]]: ...
    def add_events(self, events: Sequence[tuple[int, str]]) -> None: ...


class EventsPort(Protocol):
    """`count`: the number that the next event gets."""

    count: int

    def since(self, number: int) -> list[tuple[int, bytes]]: ...
    def recall(self, events: Sequence[tuple[int, bytes]]) -> None: ...


class Journal:
    """Gives `events` those of earlier lives at once, and keeps the new ones."""

    def __init__(self, state: StatePort, events: EventsPort) -> None:
        self._state, self._events = state, events
        events.recall([(number, text.encode()) for number, text in state.events()])
        self._kept = events.count

    async def run(self) -> None:
        """For ever."""
        while True:
            await anyio.sleep(PAUSE)
            if news := self._events.since(self._kept):
                rows = [(number, text.decode()) for number, text in news]
                try:
                    await anyio.to_thread.run_sync(self._state.add_events, rows)
                except OSError as error:
                    log.warning("cannot keep events: %s", error.strerror)
                self._kept = news[-1][0] + 1
