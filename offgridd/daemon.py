"""Composition root: settings -> adapters -> task group -> READY -> drain. Knows every class; has no logic of models."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from offgridd.api.app import create_app
from offgridd.api.context import Context
from offgridd.api.control import is_ready
from offgridd.api.status import StatusView
from offgridd.core import events as ev
from offgridd.effects import source, watch
from offgridd.effects.files import Files
from offgridd.effects.state import State, StateLockedError
from offgridd.effects.systemd import Notifier
from offgridd.effects.workers import Workers
from offgridd.reconcile.intake import Intake
from offgridd.reconcile.loop import Reconciler, Snapshot
from offgridd.settings import Settings

log = logging.getLogger("offgridd")
DRAIN = 30.0  # seconds for open requests after SIGTERM
EXIT_CONFIG = 78
BACKLOG = 4096


class StartError(Exception):
    """The daemon can not start; `code` is the exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def bind(listen: tuple[str, ...]) -> list[socket.socket]:
    """Listening TCP sockets. Raises StartError."""
    made: list[socket.socket] = []
    for entry in listen:
        host, _, port = entry.rpartition(":")
        host = host.strip("[]")
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, proto)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            for one in made:
                one.close()
            raise StartError(
                f"cannot listen on {entry}: {error.strerror}; change server.listen or stop the other"
            ) from error
    return made


def bind_admin(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.unlink(missing_ok=True)  # ours: the state lock is held
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    os.chmod(path, 0o660)
    sock.listen(BACKLOG)
    return sock


PROGRAMS = {"llama": "offgridd.engine", "fake": "offgridd.engine.fake"}


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
        self._ready_sent = False

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
        settings, status = self.settings, StatusView()
        loop = Reconciler(
            Files(settings.store_roots, state.inventory), group, engine_build(settings.engine), status.update
        )
        workers = Workers(group, loop.emit, PROGRAMS[settings.engine])
        loop.workers = workers
        intake = Intake(lambda: source.read(settings.manifest), state, loop.emit)
        seen = await intake.start()
        if intake.desired is None:
            raise StartError(str(seen.problems[0]), EXIT_CONFIG)
        listeners = bind(intake.desired.server.listen)
        admin = bind_admin(settings.admin_socket)

        def context(*, admin: bool) -> Context:
            return Context(loop, workers, intake, status, admin, self.stopping.is_set)

        group.start_soon(loop.run)
        group.start_soon(self._watch, intake)
        group.start_soon(self._tell_systemd, loop)
        group.start_soon(self._signals, intake)
        loop.emit(ev.Listening(True))
        closing = anyio.Event()
        async with anyio.create_task_group() as servers:
            for sock in listeners:
                servers.start_soon(self._http, create_app(context(admin=False)), sock, closing)
            servers.start_soon(self._http, create_app(context(admin=True)), admin, closing)
            await self.stopping.wait()
            self.notifier.send("STOPPING=1", "STATUS=draining")
            await workers.drain(DRAIN)
            closing.set()  # they send what is left and end by themselves: cancelling them would lose it
        settings.admin_socket.unlink(missing_ok=True)
        group.cancel_scope.cancel()

    async def _http(self, app: Quart, sock: socket.socket, closing: anyio.Event) -> None:
        config = Config()
        config.bind = [f"fd://{sock.fileno()}"]
        config.graceful_timeout = 2  # seconds to send the last bytes; requests were drained before
        config.include_server_header = False
        config.accesslog = None
        config.errorlog = log
        await serve(app, config, shutdown_trigger=closing.wait)

    async def _watch(self, intake: Intake) -> None:
        path, identity = self.settings.manifest, await watch.settle(self.settings.manifest, None)
        async for _ in watch.hints(path, intake.report_watch):
            if await intake.differs():
                identity = await watch.settle(path, identity)
                await self._reload(intake)

    async def _reload(self, intake: Intake) -> None:
        seen = await intake.take()
        log.info("manifest: generation %d%s", seen.generation, "".join(f"; {p}" for p in seen.problems[:1]))
        if self._ready_sent:
            self.notifier.reloading()
            refused = f"refused: {seen.problems[0]}; serving" if seen.problems else "serving"
            self.notifier.send("READY=1", f"STATUS={refused} generation {seen.generation}")

    async def _signals(self, intake: Intake) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload(intake)
                elif self.stopping.is_set():
                    os._exit(1)  # the second one ends at once; the workers die with us
                else:
                    self.stopping.set()

    async def _tell_systemd(self, loop: Reconciler) -> None:
        while not is_ready(loop):
            self.notifier.send("EXTEND_TIMEOUT_USEC=5000000", "STATUS=starting")
            with anyio.move_on_after(1):
                await loop.next_change()
        self._ready_sent = True
        self.notifier.send("READY=1", f"STATUS=serving generation {loop.snapshot.desired.generation}")
        self.announce(loop.snapshot)
        while self.notifier.watchdog:
            self.notifier.send("WATCHDOG=1")
            await anyio.sleep(self.notifier.watchdog)


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
