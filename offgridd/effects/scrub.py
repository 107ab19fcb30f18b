"""Reads again, slowly and one model at a time, what was not read for `store.verify_every`: disks rot in silence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import anyio
import anyio.to_thread

from offgridd.core.desired import ModelSpec
from offgridd.core.errors import ActionFailed
from offgridd.core.verifying import overdue
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")
PAUSE = 60.0  # seconds between two looks at what is due
SHARE = 0.1  # of the time in which it reads: nobody waits for it


class CheckerPort(Protocol):
    async def check(
        self, specs: Iterable[ModelSpec], report: Callable[[int, int], None], *, deep: bool, share: float
    ) -> dict[str, Any]: ...


class TimesPort(Protocol):
    def all(self) -> dict[str, float]: ...
    def keep(self, model: str, value: float) -> bool: ...
    def drop(self, model: str) -> None: ...


class Scrub:
    """`times`: by model, when its files were read whole last, in seconds since the epoch; they outlive the daemon."""

    def __init__(
        self, checker: CheckerPort, times: TimesPort, kept: Callable[[], Mapping[str, ModelSpec]], now: Now,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._checker, self._times, self._kept, self._now, self._clock = checker, times, kept, now, clock

    async def run(self) -> None:
        """For ever."""
        while True:
            if (spec := await anyio.to_thread.run_sync(self._next)) is not None:
                await self._read(spec)
            else:
                every = self._now.desired().store.verify_every
                with anyio.move_on_after(min(PAUSE, every or PAUSE)):
                    digest = self._now.desired().digest
                    while self._now.desired().digest == digest:
                        await self._now.changed()

    def _next(self) -> ModelSpec | None:
        """The one that is due for longest. What was never read counts from now: it was hashed when it came."""
        desired, observed, now = self._now.desired(), self._now.observed(), self._clock()
        models = {**self._kept(), **desired.models}
        known = self._times.all()
        for name in known.keys() - models.keys():
            self._times.drop(name)
        for name in models.keys() - known.keys():
            if observed.of(name).file is not None:
                self._times.keep(name, now)
        due = overdue({n: known[n] for n in known.keys() & models.keys()}, desired.store.verify_every, now)
        return models[due] if due is not None else None

    async def _read(self, spec: ModelSpec) -> None:
        try:
            found = await self._checker.check([spec], lambda _here, _size: None, deep=True, share=SHARE)
        except ActionFailed as failed:
            log.warning("cannot read %s again: %s", spec.name, failed.failure.message)
            found = {"files": []}
        for one in found["files"]:
            if one["state"] != "ok":
                log.warning("%s of %s is %s: %s; %s", one["file"], spec.name, one["state"], one["why"], one["then"])
        if not await anyio.to_thread.run_sync(self._times.keep, spec.name, self._clock()):
            await anyio.sleep(PAUSE)  # it is due still, and would be read again and again
