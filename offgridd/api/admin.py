"""The admin socket's server, for as long as the daemon lives, whatever becomes of the socket's file."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
import anyio.abc
from quart import Quart

from offgridd.api.listen import OUTLIVES, start
from offgridd.api.sockets import AdminSocket, BindError

log = logging.getLogger("offgridd")
LOOK = 5.0  # seconds between two looks at the file


class Admin:
    """Serves `app()` in tasks of `group`; `bind` makes the socket, or raises BindError, which this does at first."""

    def __init__(self, group: anyio.abc.TaskGroup, app: Callable[[], Quart], bind: Callable[[], AdminSocket]) -> None:
        self._group, self._make, self._bind = group, app, bind
        self._sock, self.app = bind(), app()
        self._listener = start(group, self.app, self._sock)
        self._said = ""

    async def keep(self) -> None:
        """For ever: makes it anew where its file was taken away, as by who tidies up a folder; answers go on."""
        while True:
            await anyio.sleep(LOOK)
            if self._sock.lost:
                self._remake()

    def _remake(self) -> None:
        try:
            sock = self._bind()
        except BindError as error:
            if str(error) != self._said:
                log.error("%s", error)
            self._said = str(error)
            return
        log.warning("the admin socket %s was taken away; it is made anew", sock.path)
        self._listener.close(OUTLIVES)
        self._sock, self.app, self._said = sock, self._make(), ""
        self._listener = start(self._group, self.app, sock)

    def close(self, within: float) -> None:
        self._listener.close(within)

    def remove(self) -> None:
        """Its file. Call it when all is closed."""
        self._sock.remove()
