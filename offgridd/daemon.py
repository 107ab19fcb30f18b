"""Composition root: settings -> adapters -> task group -> READY -> drain. Knows every class; has no logic of models."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.abc
import anyio.to_thread
from quart import Quart

from offgridd import private
from offgridd.api.app import create_app
from offgridd.api.clients import until_unused
from offgridd.api.context import Context, Host
from offgridd.api.jobs import Jobs
from offgridd.api.listen import LAST_BYTES, Listeners, start
from offgridd.api.metrics import Metrics
from offgridd.api.sockets import AdminSocket, BindError, bind_admin, bind_once, clear_once
from offgridd.api.status import StatusView
from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.fit import limits
from offgridd.effects import source, watch
from offgridd.effects.adopter import Adopter
from offgridd.effects.bundling import Bundling
from offgridd.effects.catalog import Catalog
from offgridd.effects.checker import Checker
from offgridd.effects.cpu import features
from offgridd.effects.files import Files
from offgridd.effects.garbage import Garbage
from offgridd.effects.hubaccess import HubAccess
from offgridd.effects.hubfiles import HubFiles
from offgridd.effects.hublook import HubLook
from offgridd.effects.keeper import Keeper
from offgridd.effects.locker import Locker
from offgridd.effects.memory import total_memory
from offgridd.effects.origins import Origins
from offgridd.effects.searcher import Searcher
from offgridd.effects.settle import Settler
from offgridd.effects.state import State, StateLockedError
from offgridd.effects.stock import Stock
from offgridd.effects.store import Store
from offgridd.effects.systemd import Notifier
from offgridd.effects.updates import Now, Updates
from offgridd.effects.workers import Workers
from offgridd.reconcile.intake import Intake
from offgridd.reconcile.loop import Reconciler, Snapshot
from offgridd.service import Service
from offgridd.settings import Settings

log = logging.getLogger("offgridd")
DRAIN = 30.0  # seconds for open requests after SIGTERM
EXIT_CONFIG = 78


class StartError(Exception):
    """The daemon can not start; `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


PROGRAMS = {
    "llama": (sys.executable, "-I", "-m", "offgridd.engine"),
    "fake": (sys.executable, "-I", "-m", "offgridd.engine.fake"),
}


def engine_build(engine: str) -> str:
    """What the workers run, part of every load key; read from metadata, the library itself is never imported here."""
    return "fake" if engine == "fake" else "llama-cpp-python " + importlib.metadata.version("llama-cpp-python")


@dataclass
class Daemon:
    settings: Settings
    announce: Callable[[Snapshot], None] = lambda _: None
    notifier: Notifier = field(default_factory=Notifier)

    def __post_init__(self) -> None:
        self.stopping = anyio.Event()

    async def run(self) -> None:
        """Until SIGTERM. Raises StartError."""
        try:
            state = State(self.settings.state_dir)
        except StateLockedError as error:
            raise StartError(str(error), EXIT_CONFIG) from error
        except OSError as error:
            raise StartError(f"cannot use {self.settings.state_dir}: {error.strerror}", EXIT_CONFIG) from error
        try:
            async with anyio.create_task_group() as group:
                await self._serve(group, state)
        finally:
            state.close()

    async def _serve(self, group: anyio.abc.TaskGroup, state: State) -> None:
        settings, metrics = self.settings, Metrics()
        status = StatusView(metrics, features=features())
        files = Files(settings.store_roots, state.inventory)
        loop = Reconciler(files, group, engine_build(settings.engine))
        workers = Workers(group, loop.emit, PROGRAMS[settings.engine], status.took)
        loop.workers = workers
        store = Store(settings.state_dir)
        access = HubAccess(lambda: loop.snapshot.desired)
        origins = Origins(access)
        loop.hub = hub = HubFiles(
            store, files, state.pins, origins, access.desired, status.fetched,
            lambda model: loop.emit(ev.NetworkAwaited(model)),
        )  # fmt: skip
        keeper, jobs = Keeper(hub, store, state.pins), Jobs(group)
        catalog = Catalog(settings.state_dir / "cache" / "catalog.db")
        searcher = Searcher(catalog, access.searched, lambda: host().limits.all)
        bundling = Bundling(store, files, state.pins, catalog, hub.alone)
        adopter = Adopter(store, hub, keeper, files, lambda: loop.snapshot.desired.store)
        look, locker = HubLook(access, store).look, Locker(origins.ask)

        now = Now(access.desired, lambda: loop.snapshot.observed, loop.emit, loop.next_change)
        updates = Updates(now, origins, hub, state.looks, state.pins)
        stock = Stock(settings.state_dir, time.time)
        checker = Checker(store, hub, files, state.pins, now)
        garbage = Garbage(stock, hub, state.pins, state.unreferenced, now, workers.using)

        async def texts() -> list[tuple[str, bytes]]:
            return await anyio.to_thread.run_sync(state.last_good) or []

        def host() -> Host:
            total = total_memory()
            return Host(total, limits(loop.snapshot.desired.server.memory, total), features())

        def changed(snapshot: Snapshot) -> None:
            status.update(snapshot)
            kept = snapshot.observed.kept
            workers.forget({*snapshot.desired.models, *([kept.spec.name] if kept else [])})

        loop.changed = changed
        intake = Intake(self._read, state, loop.emit)
        service = Service(loop, intake, group, self.notifier, settings.admin_socket)

        def app(*, admin: bool) -> Quart:
            stopping = self.stopping.is_set
            parts = (
                searcher.search, keeper, jobs, look, state.pins.get, host, locker, updates, bundling, texts, garbage,
                checker, adopter, self._once, settings.private,
            )  # fmt: skip
            return create_app(Context(loop, workers, status, metrics, service.reload, admin, stopping, *parts))

        async with anyio.create_task_group() as servers:
            listeners = Listeners(servers, lambda: app(admin=False))
            intake.prepare = lambda desired: self._listen(listeners, desired)
            await self._first_reading(intake)
            admin_app = app(admin=True)
            admin_socket = self._bind_admin()
            admin = start(servers, admin_app, admin_socket)
            group.start_soon(loop.run)
            group.start_soon(self._signals, group, service)
            group.start_soon(self._tell, loop, service)
            group.start_soon(updates.run)
            group.start_soon(garbage.run)
            if settings.private:
                group.start_soon(self._end_when_unused, until_unused(admin_app, settings.linger), jobs)
            else:
                group.start_soon(self._watch, intake, service)
            loop.emit(ev.Listening(True))
            await self.stopping.wait()
            service.stopping()
            loop.emit(ev.Stopping())
            await workers.drain(DRAIN)
            # They send what is left and end by themselves: cancelling them at once would lose it.
            listeners.close()
            admin.close(LAST_BYTES)
            servers.cancel_scope.deadline = anyio.current_time() + LAST_BYTES + 1
        admin_socket.remove()
        group.cancel_scope.cancel()

    def _read(self) -> Sequence[tuple[str, bytes]]:
        return private.manifest(os.environ) if self.settings.private else source.read(self.settings.manifest)

    async def _first_reading(self, intake: Intake) -> None:
        seen = await intake.start()
        if intake.desired is None:
            problem = seen.problems[0]
            raise StartError(str(problem), 1 if problem.reason == "BindFailed" else EXIT_CONFIG)

    async def _listen(self, listeners: Listeners, desired: Desired) -> None:
        try:
            await listeners.follow(() if self.settings.private else desired.server.listen)
        except BindError as error:
            raise ManifestError((Problem("BindFailed", str(error), str(self.settings.manifest)),)) from error

    def _bind_admin(self) -> AdminSocket:
        settings = self.settings
        try:
            made = bind_admin(settings.admin_socket, settings.admin_group, settings.socket_mode)
        except BindError as error:
            raise StartError(str(error)) from error
        clear_once(settings.admin_socket)
        return made

    def _once(self) -> AdminSocket:
        """Raises BindError."""
        return bind_once(self.settings.admin_socket, self.settings.admin_group, self.settings.socket_mode)

    async def _watch(self, intake: Intake, service: Service) -> None:
        settler = Settler(self.settings.manifest)
        async for moved in watch.hints(self.settings.manifest, intake.report_watch):
            if await intake.differs():
                await settler.settle(moved=moved)
                await service.reload()

    async def _signals(self, group: anyio.abc.TaskGroup, service: Service) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    group.start_soon(service.reload)
                elif self.stopping.is_set():
                    os._exit(1)  # the second one ends at once; the workers die with us
                else:
                    self.stopping.set()

    async def _tell(self, loop: Reconciler, service: Service) -> None:
        await service.starting()
        self.announce(loop.snapshot)
        await service.watchdog()

    async def _end_when_unused(self, unused: Awaitable[None], jobs: Jobs) -> None:
        await unused
        await jobs.idle()
        self.stopping.set()


def run(settings: Settings, announce: Callable[[Snapshot], None] = lambda _: None) -> int:
    """The exit code."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of each event, ours decide
    try:
        anyio.run(Daemon(settings, announce).run)
    except* StartError as group:
        failed = _first(group)
    else:
        return 0
    log.error("%s", failed)
    return failed.code


def _first(group: BaseExceptionGroup[StartError]) -> StartError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
