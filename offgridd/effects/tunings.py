"""Keeps over restarts what tuning has found, and forgets it with the model, or when that is tuned no more."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.tuned import Tuning
from offgridd.core.tuning import is_whole
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")


class RecordsPort(Protocol):
    def all(self) -> dict[str, Tuning]: ...
    def keep(self, model: str, value: Tuning) -> bool: ...
    def drop(self, model: str) -> None: ...


class Tunings:
    """Tells the loop of what is kept at once, so that the first worker is loaded with it."""

    def __init__(self, now: Now, records: RecordsPort) -> None:
        self._now, self._records = now, records
        self._kept: Mapping[str, Tuning] = records.all()
        for model, tuning in self._kept.items():
            if is_whole(tuning):
                now.emit(ev.Tuned(model, tuning))
            else:
                log.warning("cannot use what tuning found of %s: no search ends so; it is searched anew", model)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._now.changed()
            desired, known = self._now.desired(), self._now.observed().tunings
            if not desired.generation or not (known or self._kept):
                continue
            tuned = {name for name, spec in desired.models.items() if spec.tunes != "off"}
            for name in known.keys() - tuned:
                self._now.emit(ev.Tuned(name, None))
            seen = {name: replace(one, again=0.0) for name, one in known.items() if name in tuned}
            if seen != self._kept:
                await anyio.to_thread.run_sync(self._write, seen)

    def _write(self, seen: Mapping[str, Tuning]) -> None:
        for name, tuning in seen.items():
            if tuning != self._kept.get(name):
                self._records.keep(name, tuning)
        for name in self._kept.keys() - seen.keys():
            self._records.drop(name)
        self._kept = seen
