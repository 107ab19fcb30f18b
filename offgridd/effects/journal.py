"""Keeps what happened over restarts: conditions that changed, a batch a second; and logs what matters of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol

import anyio
import anyio.to_thread
import msgspec

log = logging.getLogger("offgridd")
PAUSE = 1.0  # seconds between two writes; a kill loses what came since the last
# What has no line of its own: work that goes on, what waits for another condition, and what is so on purpose.
_QUIET = ("Progressing", "Waiting", "Loading", "OnDemand", "Stale")
_OFTEN = ("InsufficientMemory", "InsufficientVram", "Evicted")
SELDOM = 600.0  # seconds between two lines of those for one model


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
        self._said: dict[str, float] = {}  # by model, when a line of `_OFTEN` was written, monotonic

    async def run(self) -> None:
        """For ever."""
        while True:
            await anyio.sleep(PAUSE)
            if news := self._events.since(self._kept):
                for _, text in news:
                    self._log(msgspec.json.decode(text, type=dict[str, Any]))
                rows = [(number, text.decode()) for number, text in news]
                try:
                    await anyio.to_thread.run_sync(self._state.add_events, rows)
                except OSError as error:
                    log.warning("cannot keep events: %s", error.strerror)
                self._kept = news[-1][0] + 1

    def _log(self, one: dict[str, Any]) -> None:
        """What a model's operator has to know. Of a refused manifest its reading tells."""
        model, kind, bad = one["model"], one["type"], one["status"] == "False"
        whose = f"model {model}: " if model else ""
        why = f"{one['reason']}: {one['message']}" if one["message"] else one["reason"]
        if kind == "Loaded" and one["status"] == "True":
            log.info("%sit serves%s", whose, f"; {why}" if one["message"] else "")
        elif kind not in ("Accepted", "UpToDate", "Ready") and bad and one["reason"] not in _QUIET and self._worth(one):
            log.warning("%s%s is False, %s", whose, kind, why)

    def _worth(self, one: dict[str, Any]) -> bool:
        """Each request for a model that there is no room for would be a line."""
        if one["reason"] not in _OFTEN:
            return True
        now = time.monotonic()
        worth = now - self._said.get(one["model"], -SELDOM) >= SELDOM
        if worth:
            self._said[one["model"]] = now
        return worth
