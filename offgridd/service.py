"""What the service manager hears: that we start and how far, are ready, reload, stop, and are alive."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.abc

from offgridd.core.errors import Problem
from offgridd.core.gitsource import UNKNOWN
from offgridd.core.readiness import is_ready, not_ready
from offgridd.effects.systemd import Notifier
from offgridd.failpoints import failpoint
from offgridd.reconcile.intake import Intake, Seen
from offgridd.reconcile.loop import Reconciler

log = logging.getLogger("offgridd")
ALIVE = 5.0  # seconds in which the loop must pass and the API must answer
AGAIN = 1.0  # seconds until they are asked again when they did not


class Service:
    """Tasks of its own run in `group`; `admin` is the socket over which the watchdog asks the API."""

    def __init__(
        self, loop: Reconciler, intake: Intake, group: anyio.abc.TaskGroup, notifier: Notifier, admin: Path
    ) -> None:
        self._loop, self._intake, self._group, self._admin = loop, intake, group, admin
        self._notifier = notifier
        self._started, self._stopped, self._lock = False, False, anyio.Lock()

    async def starting(self) -> None:
        """Until the manifest's own policy says ready; asks for more time once a second."""
        while not self._ready():
            waiting = len(not_ready(self._loop.snapshot.desired, self._loop.snapshot.observed))
            self._send("EXTEND_TIMEOUT_USEC=5000000", f"STATUS=starting, {waiting} models are not ready")
            with anyio.move_on_after(1):
                while not self._ready():
                    await self._loop.next_change()
        failpoint("ready.before-notify")
        self._started = True
        self._send("READY=1", f"STATUS={self._state()}")

    async def watchdog(self) -> None:
        """Pings as long as the reconcile loop passes and the API answers; what a worker does is no reason to end."""
        while self._notifier.watchdog:
            alive = False
            with anyio.move_on_after(ALIVE):
                await self._loop.beat()
                alive = await answers(self._admin)
            if alive:
                self._notifier.send("WATCHDOG=1")
            await anyio.sleep(self._notifier.watchdog if alive else AGAIN)

    async def reload(self, *, fetch: bool = False, rewind: bool = False) -> Seen:
        """Reads the manifest now, for a changed file, SIGHUP and the API alike; with `fetch` its repository's, too.

        `rewind`: the repository's newest commit is taken also where it does not follow the one in effect.

        Before the first READY=1 an edit shows in STATUS only: RELOADING=1 would make the unit active. After it, every
        RELOADING=1 is followed by READY=1, whatever happens. It runs in a task of ours: a caller that is cancelled, as
        the request of a client that leaves, does not stop it half-way.
        """
        result: list[Seen] = []
        done = anyio.Event()

        async def run() -> None:
            try:
                result.append(await (self._fetch_and_reload(rewind=rewind) if fetch else self._reload()))
            finally:
                done.set()

        self._group.start_soon(run)
        await done.wait()
        return result[0]

    async def _fetch_and_reload(self, *, rewind: bool) -> Seen:
        """A remote that does not answer refuses nothing: what is in effect stays so."""
        seen, follow = await self._reload(), self._intake.follow
        facts = await follow.fetch(rewind=rewind)
        if follow.news():
            newer = await self._reload()
            seen = replace(newer, changed=seen.changed or newer.changed)
        if facts is None or not facts.reason:
            return seen
        if facts.reason in UNKNOWN:
            return replace(seen, notes=(*seen.notes, facts.message))
        return replace(seen, problems=(*seen.problems, Problem(facts.reason, facts.message, facts.url)))

    async def _reload(self) -> Seen:
        async with self._lock:
            telling = self._started and not self._stopped
            if telling:
                self._notifier.reloading()
            refused = ""
            try:
                failpoint("service.before-reload")
                seen = await self._intake.take()
                refused = f"refused: {seen.problems[0]}; " if seen.problems else ""
                level = logging.WARNING if refused else logging.INFO
                log.log(level, "manifest: %sgeneration %d", refused, seen.generation)
            finally:
                if telling:
                    self._send("READY=1", f"STATUS={refused}{self._state()}")
            return seen

    def stopping(self) -> None:
        """The last thing that is said."""
        self._send("STOPPING=1", "STATUS=draining")
        self._stopped = True

    def _send(self, *lines: str) -> None:
        if not self._stopped:
            self._notifier.send(*lines)

    def _ready(self) -> bool:
        return is_ready(self._loop.snapshot.desired, self._loop.snapshot.observed)

    def _state(self) -> str:
        return f"serving generation {self._loop.snapshot.desired.generation}"


async def answers(admin: Path) -> bool:
    """Whether the API answers a real request."""
    try:
        async with await anyio.connect_unix(str(admin)) as stream:
            await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await stream.receive()).startswith(b"HTTP/1.1 200")
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # clients have them all; ending us would cut each of them
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return False
