"""Keeps what happened over restarts: condition transitions, a batch a second."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import anyio
import anyio.to_thread
import msgspec

log = logging.getLogger("offgridd")
PAUSE = 1.0  # seconds between two writes; a kill loses what came since the last


class StatePort(Protocol):
    def events(self) -> list[tuple[int, str]]: ...
    def add_events(self, events: Sequence[tuple[int, str]]) -> None: ...


class EventsPort(Protocol):
    """`count`: the number that the next event gets."""

    count: int

    def since(self, number: int) -> list[dict[str, Any]]: ...
    def recall(self, events: Sequence[dict[str, Any]]) -> None: ...


class Journal:
    """Gives `events` those of earlier lives at once, and keeps the new ones."""

    def __init__(self, state: StatePort, events: EventsPort) -> None:
        self._state, self._events = state, events
        known = []
        for _, text in state.events():
            try:
                known.append(msgspec.json.decode(text, type=dict[str, Any]))
            except msgspec.MsgspecError:
                continue  # written by another version
        events.recall(known)
        self._kept = events.count

    async def run(self) -> None:
        """For ever."""
        while True:
            await anyio.sleep(PAUSE)
            if news := self._events.since(self._kept):
                rows = [(one["number"], msgspec.json.encode(one).decode()) for one in news]
                try:
                    await anyio.to_thread.run_sync(self._state.add_events, rows)
                except OSError as error:
                    log.warning("cannot keep events: %s", error.strerror)
                self._kept = news[-1]["number"] + 1
