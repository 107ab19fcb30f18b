"""Tells of each declared model which benchmarks are its newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.baseline import result_of
from offgridd.effects.updates import Now


class RecordsPort(Protocol):
    """Blocking. The newest records of one model, or of all, by model, the newest last."""

    def newest(self, model: str | None = None) -> Mapping[str, Sequence[dict[str, Any]]]: ...


class Results:
    def __init__(self, records: RecordsPort, now: Now) -> None:
        self._records, self._now = records, now
        self._newest: dict[str, dict[str, Any]] = {}  # by the name that is shown

    async def run(self) -> None:
        """For ever: at the start, and for models that were added."""
        digest, known = "", set[str]()
        while True:
            if digest != self._now.desired().digest:
                digest, names = self._now.desired().digest, set(self._now.desired().models)
                if names - known:
                    records = await anyio.to_thread.run_sync(self._records.newest)
                    for name in (names - known) & records.keys():
                        for record in records[name]:
                            self.tell(record)
                known = names
            await self._now.changed()

    async def recall(self, model: str) -> None:
        """Tells of those of one model now."""
        for record in (await anyio.to_thread.run_sync(self._records.newest, model)).get(model, ()):
            self.tell(record)

    @property
    def newest(self) -> Mapping[str, Mapping[str, Any]]:
        """The newest record of each declared model that has one: our own."""
        return {name: one for name, one in self._newest.items() if name in self._now.desired().models}

    def tell(self, record: dict[str, Any]) -> None:
        models = self._now.desired().models
        self._newest = {name: one for name, one in self._newest.items() if name in models}
        if record["model"] in models:
            self._newest[record["model"]] = record
            self._now.emit(ev.Benchmarked(record["model"], result_of(record)))
