"""The loop. It alone writes desired and observed; everybody else emits events or reads the snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import anyio.abc
import anyio.lowlevel

from offgridd.core import events as ev
from offgridd.core.actions import Action, LimitCache, Resolve, StartWorker, StopWorker, Verify
from offgridd.core.desired import Desired
from offgridd.core.drafts import with_drafts
from offgridd.core.edits import hold_back, judged_otherwise, ranked_otherwise, reached_otherwise, take
from offgridd.core.errors import ActionFailed
from offgridd.core.fold import fold, forget
from offgridd.core.hub import Pin
from offgridd.core.observed import HostFacts, Identity, Observed, VerifiedFile
from offgridd.core.plan import plan
from offgridd.core.tuned import all_as_declared, effective
from offgridd.core.wearing import with_adapters
from offgridd.effects.traffic import Traffic

RESYNC = 30.0  # seconds between looks at the verified files
USES = 1.0  # seconds between passes while requests come and go
SHARE = 0.25  # of the event loop's time that passes may take when one event follows the other


class FilesPort(Protocol):
    async def verify(self, action: Verify) -> VerifiedFile: ...
    async def look(self, paths: Mapping[str, Sequence[str]]) -> dict[str, tuple[Identity, ...] | None]: ...


class HubPort(Protocol):
    async def resolve(self, action: Resolve) -> Pin: ...
    async def fetch(self, action: Verify) -> VerifiedFile: ...


class WorkersPort(Protocol):
    async def start(self, action: StartWorker) -> None: ...
    def stop(self, action: StopWorker) -> None: ...
    def limit_cache(self, action: LimitCache) -> None: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What others may read: never changed, replaced whole."""

    desired: Desired = field(default_factory=Desired)
    observed: Observed = field(default_factory=Observed)
    observed_generation: int = 0  # the generation that the newest plan was made for


@dataclass
class Reconciler:
    files: FilesPort
    group: anyio.abc.TaskGroup
    engine: str
    changed: Callable[[Snapshot], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    snapshot: Snapshot = field(default_factory=Snapshot)
    workers: WorkersPort | None = None
    hub: HubPort | None = None
    host: Callable[[], HostFacts] = HostFacts
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self._inbox: list[ev.Event | Desired] = []
        self._wake = anyio.Event()
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._look_at, self._looking = 0.0, False
        self._looks = self._looked = 0  # looks at the files that began, and that are over
        self._planned = 0  # the generation that the newest plan was made for
        self._used = False  # the newest pass heard of requests
        self._waiters = anyio.Event()
        self._said = self._taken = 0  # what was handed over so far, and what of it passes have taken in
        observed = replace(self.snapshot.observed, engine=self.engine, host=self.host())
        self.snapshot = replace(self.snapshot, observed=observed)

    def emit(self, event: ev.Event | Desired) -> None:
        """Hands over an event or a new desired state; of several desired states only the newest counts."""
        self._inbox.append(event)
        self._said += 1
        self._wake.set()

    def use(self, model: str, by: int, *, apart: bool = False) -> None:
        """Requests of a model began to wait or to be answered (1), or ended (-1).

        With many models a pass for each request would be dear: where nothing follows there is one a second for all.
        """
        if not apart:
            self.traffic.add(by)
        self._inbox.append(ev.Used(model, by, apart))
        self._said += 1
        spec = self.snapshot.observed.kept.get(model) or self.snapshot.desired.models.get(model)
        if not self._used or self.snapshot.observed.short or (spec is not None and spec.idle_unload is not None):
            self._wake.set()

    def look_again(self) -> None:
        """Looks at the files at the next pass, not at the next resync."""
        self._look_at = 0.0
        self._wake.set()

    async def looked(self) -> None:
        """Looks at the files now, and waits until what was seen is taken in; a file system that hangs, too."""
        wanted = self._looks + 1  # one that is under way may have seen less
        self.look_again()
        while self._looked < wanted:
            await self.next_change()
        await self.heard()

    async def next_change(self) -> None:
        """Until the end of the next pass, or of one that is under way and does not know what was just emitted."""
        await self._waiters.wait()

    async def heard(self) -> None:
        """Until the end of a pass that has taken in all that was emitted so far."""
        so_far = self._said
        while self._taken < so_far:
            self._wake.set()
            await self.next_change()

    async def beat(self) -> None:
        """Asks for a pass and waits for its end: returns only as long as the loop is alive."""
        self._wake.set()
        await self.next_change()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wake, began = anyio.Event(), self.clock()
            wake_at = self._pass()
            await (
                anyio.lowlevel.checkpoint()
            )  # what was started begins first: to tell of a thousand models takes a while
            self._publish(replace(self.snapshot, observed_generation=self._planned))
            # A pass looks at every model: with very many of them, events gather meanwhile and streams get their turn.
            await anyio.sleep((self.clock() - began) * (1 / SHARE - 1))
            looks, used = None if self._looking else self._look_at, began + USES if self._used else None
            times = [t for t in (wake_at, looks, used) if t is not None]
            with anyio.move_on_after(max(0.0, min(times) - self.clock()) if times else None):
                await self._wake.wait()

    def _pass(self) -> float | None:
        self._fold_inbox()
        if self.clock() >= self._look_at and not self._looking:
            self._looking, self._look_at = True, self.clock() + RESYNC
            self._looks += 1
            self.group.start_soon(self._look)
        desired = self.snapshot.desired
        made = plan(desired, self.snapshot.observed, self.clock())
        for name in made.cancel:
            if name in self._scopes:  # else it has just ended, and says so in the next pass
                self._scopes[name].cancel()
        told: list[ev.Event] = [self._start(action) for action in made.start]
        if made.short != self.snapshot.observed.short or made.given_up:
            told.append(ev.Judged(made.short, made.given_up))
        self._apply(*told)
        self._planned = desired.generation
        return made.wake_at

    def _start(self, action: Action) -> ev.Event:
        if isinstance(action, StopWorker):
            assert self.workers is not None
            self.workers.stop(action)
            return ev.WorkerStopping(action.model, action.worker, action.why, action.by)
        if isinstance(action, LimitCache):
            assert self.workers is not None
            self.workers.limit_cache(action)
            return ev.CacheLimited(action.model, action.worker, action.bytes, action.disk)
        self._scopes[action.model] = anyio.CancelScope()
        self.group.start_soon(self._act, action, self._scopes[action.model])
        return ev.ActionStarted(action.model, action.key, action.charge if isinstance(action, StartWorker) else None)

    def _fold_inbox(self) -> None:
        items, self._inbox, self._taken = self._inbox, [], self._said
        self._used = any(isinstance(item, ev.Used) for item in items)
        newest = next((item for item in reversed(items) if isinstance(item, Desired)), None)
        for item in items:  # in their order: what was judged may be declared otherwise by now, and held again
            if isinstance(item, ev.Taken):
                self.snapshot = replace(self.snapshot, desired=take(self.snapshot.desired, item.model, item.spec))
            if item is newest:
                self._declare(item)
        self._apply(*[item for item in items if not isinstance(item, Desired)])
        self._want(self.snapshot.desired)
        desired, observed = self.snapshot.desired, forget(self.snapshot.observed, self.snapshot.desired)
        self.snapshot = replace(self.snapshot, observed=with_drafts(desired, with_adapters(desired, observed)))

    def _declare(self, newest: Desired) -> None:
        known = all_as_declared(self.snapshot.desired)
        before, after = known.models, hold_back(known, newest)
        self._apply(*[ev.Removed(name, old.drain) for name, old in before.items() if name not in after.models])
        self._apply(*[ev.Reconsidered(name) for name in reached_otherwise(known, after)])
        self._apply(*[ev.Reranked(name) for name in ranked_otherwise(known, after)])
        self._apply(*[ev.Decided(name, None) for name in judged_otherwise(known, after)])
        self._want(after)

    def _want(self, desired: Desired) -> None:
        """With what tuning has found for it."""
        observed = self.snapshot.observed
        self.snapshot = replace(self.snapshot, desired=effective(desired, observed.tunings, observed.host.kind))

    def _apply(self, *happened: ev.Event) -> None:
        if happened:
            self.snapshot = replace(self.snapshot, observed=fold(self.snapshot.observed, happened, self.clock()))

    def _publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.changed(snapshot)
        waiters, self._waiters = self._waiters, anyio.Event()
        waiters.set()

    async def _look(self) -> None:
        """Beside the passes: a file system that hangs must not stop them."""
        if (host := self.host()) != self.snapshot.observed.host:
            self.emit(ev.HostSeen(host))
        looked = {name: facts.file for name, facts in self.snapshot.observed.models.items() if facts.file}
        try:
            paths = {name: [part.path for part in file.parts] for name, file in looked.items()}
            seen = await self.files.look(paths) if paths else {}
            for name, identities in seen.items():
                if self.snapshot.observed.of(name).file is looked[name]:  # else it was verified anew meanwhile
                    self.emit(ev.FileSeen(name, identities))
        finally:
            self._looking = False
            self._looked += 1
            self._wake.set()

    async def _act(self, action: Resolve | Verify | StartWorker, scope: anyio.CancelScope) -> None:
        with scope:
            if isinstance(action, StartWorker):
                assert self.workers is not None
                await self.workers.start(action)
            else:
                try:
                    self.emit(await self._find(action))
                except ActionFailed as failed:
                    self.emit(ev.VerifyFailed(action.model, action.key, failed.failure))
        self._scopes.pop(action.model, None)
        self.emit(ev.ActionEnded(action.model))

    async def _find(self, action: Resolve | Verify) -> ev.Event:
        """Raises ActionFailed."""
        if isinstance(action, Verify) and action.pin is None:
            return ev.Verified(action.model, await self.files.verify(action))
        assert self.hub is not None
        if isinstance(action, Resolve):
            return ev.Resolved(action.model, await self.hub.resolve(action))
        return ev.Verified(action.model, await self.hub.fetch(action))
