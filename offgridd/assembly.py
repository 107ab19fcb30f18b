"""What a daemon consists of: which part is made of which. Knows every class; has no logic and runs nothing."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from offgridd import private
from offgridd.api.context import Context, Machine
from offgridd.api.jobs import Jobs
from offgridd.api.metrics import Metrics
from offgridd.api.sockets import AdminSocket
from offgridd.api.status import StatusView
from offgridd.core import events as ev
from offgridd.core.fit import limits
from offgridd.core.observed import HostFacts
from offgridd.effects import source
from offgridd.effects.adopter import Adopter
from offgridd.effects.autoupdate import AutoUpdates
from offgridd.effects.benchmarks import Benchmarks
from offgridd.effects.bundling import Bundling
from offgridd.effects.catalog import Catalog
from offgridd.effects.checker import Checker
from offgridd.effects.cpu import features
from offgridd.effects.environment import kind
from offgridd.effects.files import Files
from offgridd.effects.garbage import Garbage
from offgridd.effects.gpu import has_gpu
from offgridd.effects.holds import Holds
from offgridd.effects.hubaccess import HubAccess
from offgridd.effects.hubfiles import HubFiles
from offgridd.effects.hublook import HubLook
from offgridd.effects.journal import Journal
from offgridd.effects.keeper import Keeper
from offgridd.effects.locker import Locker
from offgridd.effects.memory import total_memory
from offgridd.effects.origins import Origins
from offgridd.effects.peaks import Peaks
from offgridd.effects.pulse import Pulse
from offgridd.effects.quality import Quality
from offgridd.effects.repository import Repository
from offgridd.effects.results import Results
from offgridd.effects.scrub import Scrub
from offgridd.effects.searcher import Searcher
from offgridd.effects.shelves import Shelves
from offgridd.effects.state import State
from offgridd.effects.stock import Stock
from offgridd.effects.store import Store
from offgridd.effects.syncer import Syncer
from offgridd.effects.systemd import Notifier
from offgridd.effects.tunings import Tunings
from offgridd.effects.updates import Now, Updates
from offgridd.effects.upkeep import Upkeep
from offgridd.effects.workers import Workers
from offgridd.reconcile.follow import Follow
from offgridd.reconcile.intake import Intake
from offgridd.reconcile.loop import Reconciler, Snapshot
from offgridd.service import Service
from offgridd.settings import Settings

PROGRAMS = {
    "llama": (sys.executable, "-I", "-m", "offgridd.engine"),
    "fake": (sys.executable, "-I", "-m", "offgridd.engine.fake"),
    "probe": (sys.executable, "-I", "-m", "offgridd.engine.probe"),
}


@dataclass(frozen=True, slots=True)
class Host:
    """What the daemon's life gives its parts: `once` makes a socket for one connection.

    `closing`: it was told to end, and every answer is the last one of its connection; `draining`: it takes no requests.
    `inherited`: addresses that the service manager listens on for us.
    """

    notifier: Notifier
    once: Callable[[], AdminSocket]
    closing: Callable[[], bool]
    draining: Callable[[], bool]
    inherited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assembly:
    """`context` is that of the API on TCP; `background` runs for ever."""

    loop: Reconciler
    workers: Workers
    intake: Intake
    service: Service
    context: Context
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...]


def engine_build(engine: str) -> str:
    """What the workers run, part of every load key; read from metadata, the library itself is never imported here."""
    return engine if engine != "llama" else "llama-cpp-python " + importlib.metadata.version("llama-cpp-python")


def assemble(settings: Settings, state: State, group: anyio.abc.TaskGroup, host: Host) -> Assembly:
    """All parts, connected; what they start later runs in `group`."""
    metrics = Metrics()
    status = StatusView(metrics, features=features(), inherited=host.inherited)
    files, store, holds = Files(settings.store_roots, state.inventory), Store(settings.state_dir), Holds()
    loop = Reconciler(files, group, engine_build(settings.engine), host=_host)
    shelves = Shelves(settings.state_dir / "cache" / "prefixes")
    loop.workers = workers = Workers(group, loop.emit, PROGRAMS[settings.engine], status.took, shelves)
    now = Now(lambda: loop.snapshot.desired, lambda: loop.snapshot.observed, loop.emit, loop.next_change, loop.heard)
    access = HubAccess(now.desired)
    origins = Origins(access)
    loop.hub = hub = HubFiles(
        store, holds, files, state.pins, origins, now.desired, status.fetched,
        lambda model: loop.emit(ev.NetworkAwaited(model)),
    )  # fmt: skip
    loop.changed = _followers(status, workers)
    intake = Intake(_manifest(settings), state, loop.emit, Follow(Repository(settings.state_dir / "git")))
    service = Service(loop, intake, group, host.notifier, settings.admin_socket)
    keeper = Keeper(hub, holds, store, state.pins)
    status.kept = lambda: keeper.kept
    catalog = Catalog(settings.state_dir / "cache" / "catalog.db")
    updates = Updates(now, origins, hub, state.looks, state.pins)
    garbage = Garbage(
        Stock(settings.state_dir, time.time), holds, state.pins, state.unreferenced, now, workers.using, status.unneeded
    )  # fmt: skip

    results = Results(state.benchmarks, now)
    benchmarks = Benchmarks(state.benchmarks, workers.next_request, loop.traffic, results.tell)
    checker = Checker(store, holds, files, state.pins, now)

    def machine() -> Machine:
        total = total_memory()
        return Machine(total, limits(now.desired().server.memory, total), features())

    context = Context(
        loop=loop, workers=workers, status=status, metrics=metrics, reload=partial(service.reload, fetch=True),
        closing=host.closing, draining=host.draining,
        jobs=Jobs(group), machine=machine, texts=lambda: intake.accepted, once=host.once, private=settings.private,
        history=state.history, settings=settings.origins,
        benchmarks=benchmarks, quality=Quality(loop.traffic, workers.next_request), measured=state.benchmarks,
        newest=lambda: results.newest,
        search=Searcher(catalog, access.searched, lambda: machine().limits.all).search,
        syncer=Syncer(catalog, access.searched),
        look=HubLook(access, store).look,
        pinned=state.pins.get,
        keeper=keeper,
        locker=Locker(origins.ask),
        updates=updates,
        bundling=Bundling(store, files, state.pins, catalog, holds, now.desired),
        garbage=garbage,
        checker=checker,
        adopter=Adopter(store, holds, keeper, files, lambda: now.desired().store),
    )  # fmt: skip
    journal = Journal(state, status.transitions)
    upkeep = Upkeep(
        now, workers, benchmarks, loop.traffic, state.verdicts, state.pins, intake.took, results.recall
    )  # fmt: skip
    background = (
        loop.run, updates.run, AutoUpdates(now, updates).run, garbage.run,
        Scrub(checker, state.checked, lambda: keeper.kept, now).run,
        Pulse(workers.all_serving, workers.ooms.look).run, journal.run, results.run, Peaks(now, state.peaks).run,
        upkeep.run, Tunings(now, state.tunings).run, shelves.run,
    )  # fmt: skip
    return Assembly(loop, workers, intake, service, context, background)


def _host() -> HostFacts:
    return HostFacts(total_memory(), features(), has_gpu(), kind(), len(os.sched_getaffinity(0)))


def _followers(status: StatusView, workers: Workers) -> Callable[[Snapshot], None]:
    """Those who hear of each pass of the loop."""

    def changed(snapshot: Snapshot) -> None:
        status.update(snapshot)
        workers.forget({*snapshot.desired.models, *snapshot.observed.kept})

    return changed


def _manifest(settings: Settings) -> Callable[[], Sequence[tuple[str, bytes]]]:
    if settings.private:
        return lambda: private.manifest(os.environ)
    return lambda: source.read(settings.manifest)
