"""Adopt: a job, and a socket of its own over which open files are handed over; HTTP can not carry those."""

from __future__ import annotations

import socket
from typing import Any

import anyio
from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.api.sockets import AdminSocket, BindError
from offgridd.core.errors import ActionFailed, Failure, RequestRefused

CONNECT = 30.0  # seconds until somebody has to have connected


def add_adopt(app: Quart, ctx: Context) -> None:
    @app.post("/v1/adopt")
    async def adopt() -> Response:
        given = await body.read_json()
        copy = given.get("copy", False)
        if set(given) - {"copy"} or not isinstance(copy, bool):
            raise RequestRefused(400, "invalid_value", 'cannot adopt: the body is {"copy": true | false}', param="copy")
        try:
            once = ctx.once()
        except BindError as error:
            raise RequestRefused(500, "BindFailed", str(error)) from error

        async def work(report: Report) -> dict[str, Any]:
            with await _connected(once) as sock:
                return await ctx.adopter.serve(sock, report, copy=copy)

        return answer({**ctx.jobs.begin("adopt", work).shown(), "socket": str(once.path)}, 202)


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
        text = f"cannot adopt: nobody has connected to hand over files within {CONNECT:.0f} s"
        raise ActionFailed(Failure("Downloaded", "NobodyCame", text)) from None
    except OSError as error:
        raise ActionFailed(Failure("Downloaded", "BadHandover", f"cannot adopt: {error.strerror}")) from error
    finally:
        once.close()
        once.remove()
