"""Tells of each declared model which benchmark is its newest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.benchmark import headline
from offgridd.core.observed import Result
from offgridd.effects.updates import Now


class Results:
    """`newest` gives the newest record of each model; blocking."""

    def __init__(self, newest: Callable[[], Mapping[str, dict[str, Any]]], now: Now) -> None:
        self._newest, self._now = newest, now
        self._told: dict[str, dict[str, Any]] = {}  # by the name that is shown

    async def run(self) -> None:
        """For ever: at the start, and for models that were added."""
        digest = None
        while True:
            if digest != self._now.desired().digest:
                digest = self._now.desired().digest
                records = await anyio.to_thread.run_sync(self._newest)
                for name in self._now.desired().models.keys() & records.keys():
                    self.tell(records[name])
            await self._now.changed()

    @property
    def told(self) -> Mapping[str, Mapping[str, Any]]:
        """The newest record of each declared model that has one: our own."""
        return {name: one for name, one in self._told.items() if name in self._now.desired().models}

    def tell(self, record: dict[str, Any]) -> None:
        result = Result(record["load_key"], headline(record))
        self._told = {name: one for name, one in self._told.items() if name in self._now.desired().models}
        if record["model"] in self._now.desired().models:
            self._told[record["model"]] = record
            self._now.emit(ev.Benchmarked(record["model"], result))
