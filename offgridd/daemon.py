"""The daemon's life: state, first reading, sockets, READY, drain. What it consists of is in `assembly`."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import anyio.abc

from offgridd.api import inherited
from offgridd.api.admin import Admin
from offgridd.api.app import create_app
from offgridd.api.clients import until_unused
from offgridd.api.context import Context
from offgridd.api.jobs import Jobs
from offgridd.api.listen import LAST_BYTES, Listeners
from offgridd.api.sockets import AdminSocket, BindError, bind_admin, bind_once, clear_once
from offgridd.assembly import Host, assemble
from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.naming import is_loopback
from offgridd.effects import logs, watch
from offgridd.effects.settle import Settler
from offgridd.effects.state import State, StateLockedError, StateTooNewError
from offgridd.effects.systemd import Notifier
from offgridd.reconcile.intake import Intake
from offgridd.reconcile.loop import Reconciler, Snapshot
from offgridd.service import Service
from offgridd.settings import Settings

log = logging.getLogger("offgridd")
DRAIN = 30.0  # seconds for open requests after SIGTERM
TAKEN = 0.5  # seconds for the requests of connections that were taken before; those after wait for the next daemon
EXIT_CONFIG = 78


class StartError(Exception):
    """The daemon can not start; `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


@dataclass
class Daemon:
    settings: Settings
    announce: Callable[[Snapshot], None] = lambda _: None
    notifier: Notifier = field(default_factory=Notifier)

    def __post_init__(self) -> None:
        self.stopping = anyio.Event()
        self._refusing = False  # new requests
        self._inherited: dict[str, socket.socket] = {}

    async def run(self) -> None:
        """Until SIGTERM. Raises StartError."""
        try:
            self._inherited = {} if self.settings.private else inherited.take()
        except BindError as error:
            raise StartError(str(error)) from error
        try:
            state = State(self.settings.state_dir)
        except (StateLockedError, StateTooNewError) as error:
            raise StartError(str(error), EXIT_CONFIG) from error
        except OSError as error:
            raise StartError(f"cannot use {self.settings.state_dir}: {error.strerror}", EXIT_CONFIG) from error
        try:
            async with anyio.create_task_group() as group:
                await self._serve(group, state)
        finally:
            state.close()

    async def _serve(self, group: anyio.abc.TaskGroup, state: State) -> None:
        settings = self.settings
        made = assemble(settings, state, group, self._host())
        loop, service = made.loop, made.service

        async with anyio.create_task_group() as servers:
            listeners = Listeners(servers, lambda: create_app(made.context), self._inherited)
            made.intake.prepare = lambda desired: self._listen(listeners, desired)
            await self._first_reading(made.intake, listeners)
            admin = self._admin(servers, made.context)
            for run in made.background:
                group.start_soon(run)
            group.start_soon(made.intake.follow.run, service.reload)
            group.start_soon(self._signals, group, service)
            group.start_soon(self._tell, loop, service)
            if settings.private:
                group.start_soon(self._end_when_unused, until_unused(admin.app, settings.linger), made.context.jobs)
            else:
                group.start_soon(self._watch, made.intake, service)
                group.start_soon(admin.keep)
            loop.emit(ev.Listening(True))
            await self.stopping.wait()
            if self._inherited:
                listeners.pause()
                await anyio.sleep(TAKEN)  # an idle connection is closed next, and a new one is idle until it is read
                listeners.close(DRAIN + LAST_BYTES)
            self._refusing = True
            service.stopping()
            loop.emit(ev.Stopping())
            await made.workers.drain(DRAIN)
            # They send what is left and end by themselves: cancelling them at once would lose it.
            listeners.close()
            admin.close(LAST_BYTES)
            servers.cancel_scope.deadline = anyio.current_time() + LAST_BYTES + 1
        admin.remove()
        group.cancel_scope.cancel()

    def _host(self) -> Host:
        return Host(self.notifier, self._once, self.stopping.is_set, lambda: self._refusing, tuple(self._inherited))

    async def _first_reading(self, intake: Intake, listeners: Listeners) -> None:
        seen = await intake.start()
        if intake.desired is not None:
            return
        problem = seen.problems[0]
        if not self._inherited:
            raise StartError(str(problem), 1 if problem.reason == "BindFailed" else EXIT_CONFIG)
        # Each connection would start us again until systemd gives up: rather say what is wrong, and wait for an edit.
        log.error("%s", problem)
        await listeners.follow(())

    async def _listen(self, listeners: Listeners, desired: Desired) -> None:
        open_ = [one for one in self._inherited if not is_loopback(one)]
        if open_ and not desired.server.insecure:
            text = (
                f"cannot serve on {open_[0]}, which was handed over: it is reachable from other machines and the API "
            )
            text += "asks for no key; change ListenStream, or say 'insecure: true' under server"
            raise ManifestError((Problem("InsecureListen", text, str(self.settings.manifest)),))
        try:
            await listeners.follow(() if self.settings.private else desired.server.listen)
        except BindError as error:
            raise ManifestError((Problem("BindFailed", str(error), str(self.settings.manifest)),)) from error

    def _admin(self, group: anyio.abc.TaskGroup, context: Context) -> Admin:
        try:
            made = Admin(group, lambda: create_app(replace(context, admin=True)), self._bind_admin)
        except BindError as error:
            raise StartError(str(error)) from error
        clear_once(self.settings.admin_socket)
        return made

    def _bind_admin(self) -> AdminSocket:
        """Raises BindError."""
        settings = self.settings
        return bind_admin(settings.admin_socket, settings.admin_group, settings.socket_mode)

    def _once(self) -> AdminSocket:
        """Raises BindError."""
        return bind_once(self.settings.admin_socket, self.settings.admin_group, self.settings.socket_mode)

    async def _watch(self, intake: Intake, service: Service) -> None:
        settler = Settler(self.settings.manifest)
        async for moved in watch.hints(self.settings.manifest, intake.report_watch):
            if await intake.differs():
                await settler.settle(moved=moved)
                await service.reload()
            else:
                await intake.keep_again()

    async def _signals(self, group: anyio.abc.TaskGroup, service: Service) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    group.start_soon(partial(service.reload, fetch=True))
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
    logs.install(settings.log_level, settings.log_format)
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
