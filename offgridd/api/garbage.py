"""What of the store nobody needs any more: shown, and removed when that is asked. For the admin socket."""

from __future__ import annotations

from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.core.errors import ActionFailed, RequestRefused


def add_garbage(app: Quart, ctx: Context) -> None:
    @app.post("/v1/gc")
    async def collect() -> Response:
        given = await body.read_json()
        remove = given.get("remove", False)
        if set(given) - {"remove"} or not isinstance(remove, bool):
            text = 'cannot collect: the body is {"remove": true} or {"remove": false}'
            raise RequestRefused(400, "invalid_value", text, param="remove")
        try:
            return answer(await ctx.garbage.collect(remove=remove))
        except ActionFailed as failed:
            raise RequestRefused(500, failed.failure.reason, failed.failure.message) from failed
