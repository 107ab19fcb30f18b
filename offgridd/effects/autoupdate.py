"""`updates: auto`: what is newer is fetched, verified and loaded; where it is not Ready the old one comes back.

Until it has proved itself the state keeps the old pin, so that a restart in the middle goes on with what worked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from offgridd.core.plan import current_file, current_pin, obstacle, short_of
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

    async def run(self) -> None:
        """For ever."""
        async with anyio.create_task_group() as group:
            while True:
                for name, (pin, look) in self._due().items():
                    self._trying.add(name)
                    group.start_soon(self._try, self._now.desired().models[name], pin, look)
                await self._now.changed()

    def _due(self) -> Mapping[str, tuple[Pin, Look]]:
        desired, observed = self._now.desired(), self._now.observed()
        found = {}
        for name, spec in desired.models.items():
            if spec.updates != "auto" or name in self._trying or why_not(spec, suspended=desired.server.suspend):
                continue
            facts = observed.of(name)
            pin = current_pin(spec, facts)
            look = current_look(pin, facts.look) if pin else None
            if pin and look and look.newer and not look.rejected and current_file(spec, facts):
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
                await self._contend(spec, look, file)
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
                passing = short is not None and short.failure == why  # the file is good, and others may leave
                await self._updates.reject(spec, look, text, passing=passing)
            else:
                await self._updates.settle(spec, newer)
        except ActionFailed as failed:
            bad = failed.failure.condition == "Verified"
            await self._updates.reject(spec, look, failed.failure.message, passing=not bad)

    async def _contend(self, spec: ModelSpec, look: Look, file: VerifiedFile) -> None:
        """The old one serves until the newer one was measured beside it: who judges says which goes on."""
        assert look.newer is not None
        pin = self._now.observed().of(spec.name).pin
        assert pin is not None
        self._now.emit(ev.Updated(challenger_name(spec.name), look.newer, file))
        self._now.emit(ev.Challenged(spec.name))
        log.info("model %s: measuring what is newer, at %s", spec.name, look.newer.commit[:12])
        await self._now.heard()
        while self._is_same(spec, pin):
            observed = self._now.observed()
            verdict, declared = observed.of(spec.name).verdict, self._now.desired().models[spec.name]
            key = challenger_key(declared, observed)
            if verdict and verdict.key == key and verdict.status == "False" and verdict.again is None:
                await self._updates.reject(spec, look, f"{verdict.reason}: {verdict.message}", passing=False)
                break
            await self._now.changed()
        else:
            now = self._now.observed().of(spec.name)
            if now.file is not None and now.file.key == file.key:
                await self._updates.settle(spec, look.newer)
        self._now.emit(ev.Unchallenged(spec.name))

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
            if not self._is_same(spec, newer) or facts.file is None or facts.file.key != file.key:
                return "superseded"
            now = self._now.desired().models[spec.name]
            if _serves(now, facts, file, self._now.observed().engine):
                return "serves"
            if (failure := obstacle(now, self._now.observed())) is not None:
                return failure
            await self._now.changed()


def _serves(spec: ModelSpec, facts: ModelFacts, file: VerifiedFile, engine: str) -> bool:
    key = load_key(spec, file.key, engine)
    return any(w.ready and not w.stopping and w.load_key == key for w in facts.workers)
