"""A job whose client hands over open files, over a socket that is made for it: HTTP can not carry descriptors."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from quart import Response

from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.api.sockets import AdminSocket, BindError
from offgridd.core.errors import ActionFailed, Failure, RequestRefused

CONNECT = 30.0  # seconds until somebody has to have connected
Work = Callable[[socket.socket, Report], Awaitable[dict[str, Any]]]


def begin(ctx: Context, what: str, work: Work) -> Response:
    """The job, and the path of the socket; `work` gets its one connection. Raises RequestRefused."""
    try:
        once = ctx.once()
    except BindError as error:
        raise RequestRefused(500, "BindFailed", str(error)) from error

    async def run(report: Report) -> dict[str, Any]:
        with await _connected(once) as sock:
            return await work(sock, report)

    return answer({**ctx.jobs.begin(what, run).shown(), "socket": str(once.path)}, 202)


async def _connected(once: AdminSocket) -> socket.socket:
    """The one connection; the socket that it came by is gone then, whatever came. Raises ActionFailed."""
    try:
        with anyio.fail_after(CONNECT):
            while True:
                await anyio.wait_readable(once)
                try:
                    sock, _ = once.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue  # it has left again
                sock.setblocking(False)
                return sock
    except TimeoutError:
        text = f"cannot go on: nobody has connected to hand over files within {CONNECT:.0f} s"
        raise ActionFailed(Failure("Downloaded", "NobodyCame", text)) from None
    except OSError as error:
        raise ActionFailed(Failure("Downloaded", "BadHandover", f"cannot go on: {error.strerror}")) from error
    finally:
        once.close()
        once.remove()
