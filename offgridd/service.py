"""What the service manager hears: that we start and how far, are ready, reload, stop, and are alive."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio

from offgridd.api.control import is_ready
from offgridd.core.conditions import not_ready
from offgridd.effects.systemd import Notifier
from offgridd.failpoints import failpoint
from offgridd.reconcile.intake import Intake, Seen
from offgridd.reconcile.loop import Reconciler

log = logging.getLogger("offgridd")
ALIVE = 5.0  # seconds in which the loop must pass and the API must answer


class Service:
    def __init__(self, loop: Reconciler, intake: Intake, notifier: Notifier, admin: Path) -> None:
        self._loop, self._intake, self._notifier, self._admin = loop, intake, notifier, admin
        self._started, self._lock = False, anyio.Lock()

    async def starting(self) -> None:
        """Until the manifest's own policy says ready; asks for more time once a second."""
        while not is_ready(self._loop):
            desired, observed = self._loop.snapshot.desired, self._loop.snapshot.observed
            waiting = len(not_ready(desired, observed))
            self._notifier.send("EXTEND_TIMEOUT_USEC=5000000", f"STATUS=starting, {waiting} models are not ready")
            with anyio.move_on_after(1):
                await self._loop.next_change()
        failpoint("ready.before-notify")
        self._started = True
        self._notifier.send("READY=1", f"STATUS={self._state()}")

    async def watchdog(self) -> None:
        """Pings as long as the reconcile loop passes and the API answers; a hung worker is repaired, not fatal."""
        while self._notifier.watchdog:
            with anyio.move_on_after(ALIVE):
                await self._loop.beat()
                if await answers(self._admin):
                    self._notifier.send("WATCHDOG=1")
            await anyio.sleep(self._notifier.watchdog)

    async def reload(self) -> Seen:
        """Reads the manifest now, for a changed file, SIGHUP and the API alike.

        Before the first READY=1 an edit shows in STATUS only: RELOADING=1 would make the unit active. After it, every
        RELOADING=1 is followed by READY=1, whatever happens.
        """
        async with self._lock:
            if self._started:
                self._notifier.reloading()
            refused = ""
            try:
                failpoint("service.before-reload")
                seen = await self._intake.take()
                refused = f"refused: {seen.problems[0]}; " if seen.problems else ""
                log.info("manifest: %sgeneration %d", refused, seen.generation)
            finally:
                if self._started:
                    self._notifier.send("READY=1", f"STATUS={refused}{self._state()}")
            return seen

    def stopping(self) -> None:
        self._notifier.send("STOPPING=1", "STATUS=draining")

    def _state(self) -> str:
        return f"serving generation {self._loop.snapshot.desired.generation}"


async def answers(admin: Path) -> bool:
    """Whether the API answers a real request."""
    try:
        async with await anyio.connect_unix(str(admin)) as stream:
            await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await stream.receive()).startswith(b"HTTP/1.1 200")
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        return False
