"""Looks from time to time whether a hub has something newer, says so, and takes it when told to."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.actions import Verify
from offgridd.core.adapters import with_adapters_of
from offgridd.core.challenge import challenger_name
from offgridd.core.desired import Desired, HubSource, ModelSpec, Use
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, HubFailure, Pin
from offgridd.core.keys import question_key, source_key
from offgridd.core.observed import Observed, VerifiedFile
from offgridd.core.pinning import Question
from offgridd.core.plan import current_file, current_pin
from offgridd.core.updates import Look, due_at, look_key, still_rejected
from offgridd.effects.getting import Heard, of_hub, refused, told
from offgridd.effects.origins import Origins

PAUSE = 1.0  # seconds between two looks at what is due
LONGEST = 3600.0  # seconds without one: what was reckoned under a clock that was wrong does not last
AT_ONCE = 4


class RecordsPort(Protocol):
    def all(self) -> dict[str, Look]: ...
    def keep(self, model: str, value: Look) -> bool: ...
    def drop(self, model: str) -> object: ...


class PinsPort(Protocol):
    def keep(self, model: str, value: Pin) -> bool: ...


class HubPort(Protocol):
    async def get(self, action: Verify, tell: Heard) -> VerifiedFile: ...


@dataclass(frozen=True, slots=True)
class Now:
    """The newest state of the loop, how to wait for the next one, and for the one that knows of what was emitted."""

    desired: Callable[[], Desired]
    observed: Callable[[], Observed]
    emit: Callable[[ev.Event], None]
    changed: Callable[[], Awaitable[None]]
    heard: Callable[[], Awaitable[None]]


class Updates:
    """`looks` and `pins` outlive the daemon."""

    def __init__(
        self, now: Now, origins: Origins, hub: HubPort, looks: RecordsPort, pins: PinsPort,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._now, self._origins, self._hub, self._looks, self._pins = now, origins, hub, looks, pins
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._since: dict[tuple[str, str], float] = {}  # when a pin was seen first, by model and `look_key`

    async def run(self) -> None:
        """For ever."""
        for name, look in (await anyio.to_thread.run_sync(self._looks.all)).items():
            if name in self._declared():
                self._now.emit(ev.UpdateSeen(name, look))
            else:
                await anyio.to_thread.run_sync(self._looks.drop, name)
        while True:
            due, wake = self._due()
            for spec, pin in due:
                await self.look(spec, pin)
            with anyio.move_on_after(None if wake is None else min(LONGEST, max(0.0, wake - self._clock()))):
                await self._now.changed()
            await anyio.sleep(PAUSE)

    def _declared(self) -> dict[str, ModelSpec]:
        return with_adapters_of(self._now.desired().models)

    def _due(self) -> tuple[list[tuple[ModelSpec, Pin]], float | None]:
        """What is to be looked at now, and when something will be."""
        now, desired, observed = self._clock(), self._now.desired(), self._now.observed()
        due: list[tuple[ModelSpec, Pin]] = []
        later: list[float] = []
        seen: dict[tuple[str, str], float] = {}
        for spec in () if desired.server.offline else self._declared().values():
            facts = observed.of(spec.name)
            pin = current_pin(spec, facts)
            if pin is None or current_file(spec, facts) is None:
                continue
            known = spec.name, look_key(pin)
            seen[known] = self._since.get(known, now)
            at = due_at(spec, pin, facts.look, seen[known], now)
            if at is not None:
                (due.append((spec, pin)) if at <= now else later.append(at))
        self._since = seen
        return due, min(later, default=None)

    async def look(self, spec: ModelSpec, pin: Pin) -> Look:
        """Asks the hub of a model, and tells. Never raises: a failure is what was seen."""
        look = await anyio.to_thread.run_sync(
            partial(self._look, spec, pin), limiter=self._limiter, abandon_on_cancel=True
        )
        look = still_rejected(look, self._now.observed().of(spec.name).look)
        await self._tell(spec, look)
        return look

    def _look(self, spec: ModelSpec, pin: Pin) -> Look:
        found = Look(look_key(pin), self._clock())
        try:
            commit, newer = told(partial(self._ask, spec, pin), "UpToDate")
        except ActionFailed as failed:
            failure = failed.failure
            return replace(found, failure=HubFailure(failure.reason, failure.message))
        if isinstance(newer, Failure):
            return replace(found, commit=commit, failure=HubFailure(newer.reason, newer.message))
        return replace(found, commit=commit, newer=newer)

    def _ask(self, spec: ModelSpec, pin: Pin) -> tuple[str, Pin | Failure | None]:
        assert isinstance(spec.source, HubSource)
        memory = self._now.desired().server.memory
        asked = Question(spec.source, question_key(spec), spec.sha256, Use(spec.load, spec.cache_ram), memory)
        try:
            return self._origins.newer(asked, pin)
        except HubError as error:
            raise of_hub("UpToDate", error) from error

    async def update(self, spec: ModelSpec, newer: Pin, tell: Heard) -> bool:
        """Fetches what is newer and verifies it, and only then pins the model to it. Raises ActionFailed.

        Until then the model is what it was; then its worker is replaced as for any other change. False where it has to
        be measured first: it is pinned once that was done.
        """
        file = await self.fetch(spec, newer, tell)
        now = self._declared().get(spec.name)
        if now is None or now.lock is not None or source_key(now) != source_key(spec):
            raise refused("UpToDate", "Superseded", f"cannot update {spec.name}: the manifest has changed meanwhile")
        if now.holds:
            self._now.emit(ev.Decided(spec.name, None))  # also where it was refused before: it is asked for anew
            self._now.emit(ev.Updated(challenger_name(spec.name), newer, file))
            self._now.emit(ev.Challenged(spec.name))
            return False
        await anyio.to_thread.run_sync(self._pins.keep, spec.name, newer)
        self._now.emit(ev.Updated(spec.name, newer, file))
        await self._tell(spec, Look(look_key(newer), self._clock(), newer.commit))
        return True

    async def fetch(self, spec: ModelSpec, newer: Pin, tell: Heard = lambda _here, _size: None) -> VerifiedFile:
        """Raises ActionFailed."""
        action = Verify(spec.name, spec.source, spec.sha256, source_key(spec), newer, spec.adapter_of is not None)
        return await self._hub.get(action, tell)

    async def settle(self, spec: ModelSpec, newer: Pin) -> None:
        """What was tried is good."""
        await anyio.to_thread.run_sync(self._pins.keep, spec.name, newer)
        await self._tell(spec, Look(look_key(newer), self._clock(), newer.commit))

    async def reject(self, spec: ModelSpec, look: Look, why: str, *, passing: bool) -> None:
        """What was tried is not; it is tried again where that is `passing`, else when something else is newer."""
        if passing:
            await self._tell(spec, replace(look, newer=None, failure=HubFailure("CheckFailed", why)))
        else:
            await self._tell(spec, replace(look, rejected=why))

    async def _tell(self, spec: ModelSpec, look: Look) -> None:
        await anyio.to_thread.run_sync(self._looks.keep, spec.name, look)
        self._now.emit(ev.UpdateSeen(spec.name, look))
