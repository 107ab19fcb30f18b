"""Tells of each declared model which benchmarks are its newest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.baseline import result_of
from offgridd.effects.updates import Now


class Results:
    """`newest` gives the newest records of each model, the newest last; blocking."""

    def __init__(self, newest: Callable[[], Mapping[str, Sequence[dict[str, Any]]]], now: Now) -> None:
        self._newest, self._now = newest, now

    async def run(self) -> None:
        """For ever: at the start, and for models that were added."""
        digest = None
        while True:
            if digest != self._now.desired().digest:
                digest = self._now.desired().digest
                records = await anyio.to_thread.run_sync(self._newest)
                for name in self._now.desired().models.keys() & records.keys():
                    for record in records[name]:
                        self.tell(record)
            await self._now.changed()

    async def recall(self, model: str) -> None:
        """Tells of those of one model now."""
        for record in (await anyio.to_thread.run_sync(self._newest)).get(model, ()):
            self.tell(record)

    def tell(self, record: dict[str, Any]) -> None:
        if record["model"] in self._now.desired().models:
            self._now.emit(ev.Benchmarked(record["model"], result_of(record)))
