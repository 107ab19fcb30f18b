"""Adopt: a job that takes over what its client hands over."""

from __future__ import annotations

import socket
from typing import Any

from quart import Quart, Response

from offgridd.api import body, handover
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.core.errors import RequestRefused


def add_adopt(app: Quart, ctx: Context) -> None:
    @app.post("/v1/adopt")
    async def adopt() -> Response:
        given = await body.read_json()
        copy = given.get("copy", False)
        if set(given) - {"copy"} or not isinstance(copy, bool):
            raise RequestRefused(400, "invalid_value", 'cannot adopt: the body is {"copy": true | false}', param="copy")

        async def work(sock: socket.socket, report: Report) -> dict[str, Any]:
            return await ctx.adopter.serve(sock, report, copy=copy)

        return handover.begin(ctx, "adopt", work)
