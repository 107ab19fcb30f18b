"""Collects what of the store nobody needs any more, when told to, and counts how long that is so.

A decision is made anew for each thing, under the lock that whoever fetches or verifies it holds, and only then it goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread

from offgridd.core.garbage import Item, Verdict, counted, freed, judge, referred, rules_of
from offgridd.core.hub import Pin
from offgridd.core.sizes import show_size
from offgridd.effects.getting import refused
from offgridd.effects.holds import Holds
from offgridd.effects.stock import Stock
from offgridd.effects.updates import Now

log = logging.getLogger("offgridd")
TICK = 60.0  # seconds between two counts; a kill loses what came since the last
_ALL = "blobs"  # the one row


class PinsPort(Protocol):
    def all(self) -> dict[str, Pin]: ...


class AgesPort(Protocol):
    def get(self, model: str) -> dict[str, float] | None: ...
    def keep(self, model: str, value: dict[str, float]) -> bool: ...


class Garbage:
    """`ages`: by sha256, the seconds of the daemon's life in which nothing referred to a blob; they outlive it.

    `using`: the sha256s of files that live workers have open; `tell` takes how many things may go, and their bytes.
    """

    def __init__(
        self, stock: Stock, holds: Holds, pins: PinsPort, ages: AgesPort, now: Now,
        using: Callable[[], Collection[str]], tell: Callable[[int, int], None] = lambda _count, _bytes: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._stock, self._holds, self._pins, self._ages, self._now = stock, holds, pins, ages, now
        self._using, self._tell, self._clock = using, tell, clock
        self._idle: dict[str, float] | None = None  # read with the first count
        self._counted = clock()
        self._one = anyio.Lock()

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                async with self._one:
                    await self._count()
                    await self._prune()
            except OSError as error:
                log.warning("cannot look through the store: %s", error.strerror)
            digest = self._now.desired().digest
            with anyio.move_on_after(TICK):
                while self._now.desired().digest == digest:
                    await self._now.changed()

    async def _prune(self) -> None:
        """What `store.prune` says. While the newest manifest is refused nothing goes. Raises OSError."""
        desired = self._now.desired()
        if desired.store.prune == "never":
            self._tell(0, 0)
            return
        left = [v for v in await self._verdicts() if v.goes]
        if desired.store.prune == "delete" and not self._now.observed().manifest.problems:
            made = [await self._remove(verdict) for verdict in left]
            for one in made:
                if one["removed"] or one["error"]:
                    done = one["error"] or f"removed it, {show_size(one['size'])} are free"
                    log.info("%s %s (%s): %s", one["kind"], one["name"][:16], one["reason"], done)
            left = [verdict for verdict, one in zip(left, made, strict=True) if not one["removed"]]
        self._tell(len(left), freed(left))

    async def collect(self, *, remove: bool) -> dict[str, Any]:
        """What may go and what stays, and why; removes what may go where that is asked. Raises ActionFailed."""
        async with self._one:
            try:
                await self._count()
                verdicts = await self._verdicts()
            except OSError as error:
                raise refused("Downloaded", "Unreadable", f"cannot look through the store: {error.strerror}") from error
            made = [await self._remove(v) if remove and v.goes else _shown(v) for v in verdicts]
        gone = sum(one["size"] for one in made if one["removed"])
        return {"remove": remove, "bytes": freed(verdicts), "freed": gone, "entries": made}

    async def _count(self) -> None:
        """Raises OSError."""
        references, now = await self._references(), self._clock()
        passed, self._counted = now - self._counted, now
        if rules_of(self._now.desired()).empty:
            passed = 0.0
        await anyio.to_thread.run_sync(self._keep_ages, references, passed)

    def _keep_ages(self, references: Mapping[str, str], passed: float) -> None:
        before = self._idle if self._idle is not None else self._ages.get(_ALL) or {}
        self._idle = counted(before, self._stock.blobs(), references, passed)
        if self._idle or before:
            self._ages.keep(_ALL, self._idle)

    async def _references(self, reserved: str = "") -> dict[str, str]:
        """Why each sha256 is needed; that one is `reserved` is no reason."""
        pins = await anyio.to_thread.run_sync(self._pins.all)
        busy = {*self._using(), *(self._holds.busy() - {reserved})}
        return referred(self._now.desired(), self._now.observed(), pins, busy)

    async def _verdicts(self) -> tuple[Verdict, ...]:
        items = await anyio.to_thread.run_sync(self._stock.items)
        return judge(map(self._aged, items), await self._references(), rules_of(self._now.desired()))

    def _aged(self, item: Item) -> Item:
        return replace(item, age=(self._idle or {}).get(item.name, 0.0)) if item.kind == "blob" else item

    async def _remove(self, verdict: Verdict) -> dict[str, Any]:
        """Decided once more, while nobody can begin to need it."""
        item = verdict.item
        with self._holds.reserved(item.name) as ours:
            if not ours:
                return _shown(replace(verdict, goes=False, reason="InUse"))
            try:
                there = await anyio.to_thread.run_sync(self._stock.item, item.kind, item.name)
                if there is None:
                    return _shown(replace(verdict, goes=False, reason="Gone"))
                references = await self._references(item.name)
                (again,) = judge([self._aged(there)], references, rules_of(self._now.desired()))
                if not again.goes:
                    return _shown(again)
                done = await anyio.to_thread.run_sync(partial(self._stock.discard, there))
            except OSError as error:
                return _shown(verdict, error=f"cannot remove it: {error.strerror}")
        if not done:
            return _shown(replace(again, goes=False, reason="InUse"))
        if self._idle is not None and item.kind == "blob":
            self._idle.pop(item.name, None)  # should it come back, it begins anew
        return _shown(again, removed=True)


def _shown(verdict: Verdict, *, removed: bool = False, error: str | None = None) -> dict[str, Any]:
    item = verdict.item
    left = None if verdict.left is None else round(verdict.left)
    return {"kind": item.kind, "name": item.name, "file": item.title or None, "size": item.size,
            "age": round(item.age), "goes": verdict.goes, "reason": verdict.reason, "left": left, "removed": removed,
            "error": error}  # fmt: skip
