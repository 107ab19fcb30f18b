"""`updates: auto`: what is newer is fetched, verified and loaded; where it is not Ready the old one comes back.

Until it has proved itself the state keeps the old pin, so that a restart in the middle goes on with what worked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Protocol

import anyio

from offgridd.core import events as ev
from offgridd.core.benchmarked import challenger_key
from offgridd.core.challenge import challenger_name
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import Pin
from offgridd.core.keys import load_key, source_key
from offgridd.core.observed import ModelFacts, VerifiedFile
from offgridd.core.plan import complete_file, current_pin, obstacle, short_of
from offgridd.core.updates import Look, current_look, why_not
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")


class UpdatesPort(Protocol):
    async def fetch(self, spec: ModelSpec, newer: Pin) -> VerifiedFile: ...
    async def settle(self, spec: ModelSpec, newer: Pin) -> None: ...
    async def reject(self, spec: ModelSpec, look: Look, why: str, *, passing: bool) -> None: ...


class AutoUpdates:
    """`updates` fetches, and writes what came of it."""

    def __init__(self, now: Now, updates: UpdatesPort) -> None:
        self._now, self._updates = now, updates
        self._trying: set[str] = set()
        self._followed: set[str] = set()  # what is newer of them is measured

    async def run(self) -> None:
        """For ever."""
        async with anyio.create_task_group() as group:
            while True:
                for name, (pin, look) in self._due().items():
                    self._trying.add(name)
                    group.start_soon(self._try, self._now.desired().models[name], pin, look)
                for name in self._now.observed().challenged - self._followed:
                    self._followed.add(name)
                    group.start_soon(self._follow, name)
                await self._now.changed()

    def _due(self) -> Mapping[str, tuple[Pin, Look]]:
        desired, observed = self._now.desired(), self._now.observed()
        found = {}
        for name, spec in desired.models.items():
            going_on = name in self._trying or name in observed.challenged
            if spec.updates != "auto" or going_on or why_not(spec, suspended=desired.server.suspend):
                continue
            facts = observed.of(name)
            pin = current_pin(spec, facts)
            look = current_look(pin, facts.look) if pin else None
            if pin and look and look.newer and not look.rejected and complete_file(spec, facts):
                found[name] = pin, look
        return {} if desired.server.offline else found

    async def _try(self, spec: ModelSpec, pin: Pin, look: Look) -> None:
        try:
            await self._judge(spec, pin, look)
            await self._now.heard()  # what came of it: before that it is due still
        finally:
            self._trying.discard(spec.name)

    async def _judge(self, spec: ModelSpec, pin: Pin, look: Look) -> None:
        assert look.newer is not None
        before, newer = self._now.observed().of(spec.name).file, look.newer
        try:
            file = await self._updates.fetch(spec, newer)
            if before is None or not self._is_same(spec, pin):
                return  # it was edited or updated by hand meanwhile
            if spec.holds:
                self._now.emit(ev.Updated(challenger_name(spec.name), newer, file))
                self._now.emit(ev.Challenged(spec.name))
                return
            self._now.emit(ev.Updated(spec.name, newer, file))
            log.info("model %s: trying what is newer, %s at %s", spec.name, newer.files[0].path, newer.commit[:12])
            why = await self._verdict(spec, newer, file)
            if why == "superseded":
                return
            if isinstance(why, Failure):
                text, short = f"{why.reason}: {why.message}", short_of(spec, self._now.observed())
                self._now.emit(ev.Updated(spec.name, pin, before))
                log.warning("model %s: what is newer does not serve, the old one comes back: %s", spec.name, text)
                beside = self._now.observed().of(spec.name).adapterless
                # The file is good: others may leave, and an adapter may be had again.
                passing = why in (short and short.failure, beside and beside.failure)
                await self._updates.reject(spec, look, text, passing=passing)
            else:
                await self._updates.settle(spec, newer)
        except ActionFailed as failed:
            bad = failed.failure.condition == "Verified"
            await self._updates.reject(spec, look, failed.failure.message, passing=not bad)

    async def _follow(self, name: str) -> None:
        """What is newer is measured beside what serves; sees to what comes of that, also where it was asked for."""
        try:
            spec, facts = self._now.desired().models.get(name), self._now.observed().of(name)
            newer = self._now.observed().of(challenger_name(name)).pin
            if spec is not None and facts.pin is not None and newer is not None:
                log.info("model %s: measuring what is newer, at %s", name, newer.commit[:12])
                while self._is_open(spec, facts.pin) and not await self._refused(name):
                    await self._now.changed()
                await self._settled(spec, facts.pin)
            self._now.emit(ev.Unchallenged(name))
            await self._now.heard()
        finally:
            self._followed.discard(name)

    def _is_open(self, spec: ModelSpec, pin: Pin) -> bool:
        """Whether it is still judged, or will be; an edit that has to be judged goes before it."""
        desired = self._now.desired()
        there = spec.name in self._now.observed().challenged and spec.name not in desired.challengers
        return there and self._is_same(spec, pin) and desired.models[spec.name].holds

    async def _refused(self, name: str) -> bool:
        observed, declared = self._now.observed(), self._now.desired().models[name]
        verdict, newer = observed.of(name).verdict, observed.of(challenger_name(name)).pin
        if verdict is None or verdict.status != "False" or verdict.again is not None or newer is None:
            return False
        if verdict.key != challenger_key(declared, observed):
            return False
        pin = observed.of(name).pin
        look = current_look(pin, observed.of(name).look) if pin else None
        if look is not None:
            text = f"{verdict.reason}: {verdict.message}"
            await self._updates.reject(declared, replace(look, newer=newer), text, passing=False)
        return True

    async def _settled(self, spec: ModelSpec, pin: Pin) -> None:
        """Where it serves now; or is to, by hand, since it has to prove itself no more."""
        observed, now = self._now.observed(), self._now.desired().models.get(spec.name)
        other = observed.of(challenger_name(spec.name))
        if self._is_same(spec, pin) and now is not None and not now.holds and now.updates != "auto":
            if other.pin is not None and other.file is not None:
                await self._updates.settle(now, other.pin)
                self._now.emit(ev.Updated(now.name, other.pin, other.file))
        elif now is not None and source_key(now) == source_key(spec):
            taken = observed.of(spec.name).pin
            if taken is not None and taken != pin:
                await self._updates.settle(now, taken)

    def _is_same(self, spec: ModelSpec, pin: Pin) -> bool:
        """Whether the model still asks the same question, and has that answer."""
        now = self._now.desired().models.get(spec.name)
        if now is None or now.lock is not None or source_key(now) != source_key(spec):
            return False
        return self._now.observed().of(spec.name).pin == pin

    async def _verdict(
        self, spec: ModelSpec, newer: Pin, file: VerifiedFile
    ) -> Literal["serves", "superseded"] | Failure:
        """As soon as it is known; superseded: something else is wanted by now."""
        await self._now.heard()  # that it was tried
        while True:
            facts = self._now.observed().of(spec.name)
            other = facts.file is None or facts.file.content != file.content
            if not self._is_same(spec, newer) or other:
                return "superseded"
            now = self._now.desired().models[spec.name]
            if facts.file is not None and _serves(now, facts, facts.file, self._now.observed().engine):
                return "serves"
            if (failure := obstacle(now, self._now.observed())) is not None:
                return failure
            await self._now.changed()


def _serves(spec: ModelSpec, facts: ModelFacts, file: VerifiedFile, engine: str) -> bool:
    key = load_key(spec, file.key, engine)
    return any(w.ready and not w.stopping and w.load_key == key for w in facts.workers)
