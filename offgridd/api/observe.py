"""What there is to see: status, events, history and the effective manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from quart import Quart, Response, request

from offgridd.api.answers import PING, PING_EVENT, answer, event, raw, sse
from offgridd.api.context import Context
from offgridd.core.errors import ManifestError, RequestRefused
from offgridd.core.stamps import stamp
from offgridd.manifest import as_text, effective

CALM = 0.5  # seconds between two statuses of a watch: a pass of the loop may change many things one after the other


def add_observe(app: Quart, ctx: Context) -> None:
    @app.get("/v1/status")
    async def status() -> Response:
        if _flag("watch"):
            return sse(_statuses(ctx))
        tag = ctx.status.tag
        known = [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]
        if tag in known or "*" in known:
            return Response("", 304, {"ETag": tag})
        return raw(ctx.status.encoded, headers={"ETag": tag, "Cache-Control": "no-cache"})

    @app.get("/v1/events")
    async def events() -> Response:
        since = _number("since")
        if not _flag("follow", default=True):
            found = [msgspec.Raw(text) for _, text in ctx.status.transitions.since(since or 0)]
            return answer({"events": found, "next": ctx.status.transitions.count})
        return sse(_events(ctx, ctx.status.transitions.count if since is None else since))

    @app.get("/v1/history")
    async def history() -> Response:
        found = await anyio.to_thread.run_sync(ctx.history)
        return answer(
            {
                "generations": [
                    {"generation": n, "digest": digest, "accepted": stamp(at), "commit": commit or None}
                    for n, digest, at, commit in found
                ]
            }
        )

    @app.get("/v1/config")
    async def config() -> Response:
        files = ctx.texts()
        try:
            values = await anyio.to_thread.run_sync(effective, files) if files else []
        except ManifestError as error:
            raise RequestRefused(503, "not_accepted", f"cannot show it: {error}", retry_after=5) from None
        return answer(
            {
                "generation": ctx.desired.generation,
                "host": {name: {"value": _plain(v), "origin": origin} for name, (v, origin) in ctx.settings.items()},
                "values": [{"path": list(v.path), "value": v.value, "origin": v.origin} for v in values],
                "text": as_text(values),
            }
        )


def _flag(name: str, *, default: bool = False) -> bool:
    """A parameter of the query that is true, also where it stands there alone. Raises RequestRefused."""
    given = request.args.get(name)
    if given not in (None, "", "1", "true", "0", "false"):
        raise RequestRefused(400, "invalid_value", f"cannot use {name}: it must be true or false", param=name)
    return default if given is None else given in ("", "1", "true")


def _number(name: str) -> int | None:
    """Raises RequestRefused."""
    given = request.args.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 16):
        raise RequestRefused(400, "invalid_value", f"cannot use {name}: it must be a number of an event", param=name)
    return int(given)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value if value is None or isinstance(value, bool) else str(value)


async def _statuses(ctx: Context) -> AsyncIterator[bytes]:
    """The whole status now, and again whenever it is another one, at most twice a second."""
    shown, quiet = "", anyio.current_time()
    while not ctx.draining():
        tag = ctx.status.tag
        if tag != shown:
            shown, quiet = tag, anyio.current_time()
            yield b"data: " + ctx.status.encoded + b"\n\n"
        elif anyio.current_time() - quiet >= PING:
            quiet = anyio.current_time()
            yield PING_EVENT
        await anyio.sleep(CALM)


async def _events(ctx: Context, seen: int) -> AsyncIterator[bytes]:
    """Condition transitions as they come; the state itself is in /v1/status. A reader that is too slow misses some."""
    yield b": connected\n\n"
    ping = anyio.current_time() + PING
    while True:
        if ctx.draining():
            return
        news, seen = ctx.status.transitions.since(seen), ctx.status.transitions.count
        for _, text in news:
            yield event(msgspec.Raw(text))
        if news:
            ping = anyio.current_time() + PING
            continue  # more may have come meanwhile
        with anyio.move_on_after(ping - anyio.current_time()):
            await ctx.loop.next_change()
        if anyio.current_time() >= ping:
            ping = anyio.current_time() + PING
            yield PING_EVENT
