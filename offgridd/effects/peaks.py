"""Keeps over restarts how much memory workers were seen to take: what the next one with the same load key is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import anyio.to_thread

from offgridd.core import events as ev
from offgridd.effects.updates import Now


class RecordsPort(Protocol):
    def all(self) -> dict[str, dict[str, int]]: ...
    def keep(self, model: str, value: dict[str, int]) -> bool: ...
    def drop(self, model: str) -> None: ...


class Peaks:
    """`records`: by model, bytes by load key. Tells the loop of those at once, so before anything is loaded."""

    def __init__(self, now: Now, records: RecordsPort) -> None:
        self._now, self._records = now, records
        self._kept: dict[str, Mapping[str, int]] = dict(records.all())
        for model, peaks in self._kept.items():
            for key, peak in peaks.items():
                now.emit(ev.Measured(model, key, peak))

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._now.changed()
            desired, observed = self._now.desired().models, self._now.observed()
            seen = {name: peaks for name in desired if (peaks := observed.of(name).peaks)}
            if seen != self._kept and self._now.desired().generation:
                await anyio.to_thread.run_sync(self._write, seen)

    def _write(self, seen: Mapping[str, Mapping[str, int]]) -> None:
        for name, peaks in seen.items():
            if peaks != self._kept.get(name):
                self._records.keep(name, dict(peaks))
        for name in self._kept.keys() - seen.keys():
            self._records.drop(name)
        self._kept = dict(seen)
