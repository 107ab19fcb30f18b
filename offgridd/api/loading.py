"""POST /v1/load and /v1/unload: models that are loaded on demand, by hand. Jobs, for the admin socket."""

from __future__ import annotations

from typing import Any

from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.api.waiting import STREAM_WAIT, find_model, on_its_way
from offgridd.core import events as ev
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import ActionFailed, Failure, RequestRefused
from offgridd.core.naming import shown_name


def add_loading(app: Quart, ctx: Context) -> None:
    @app.post("/v1/load")
    async def load() -> Response:
        spec = await _asked(ctx)

        async def work(_report: Report) -> dict[str, Any]:
            try:
                async for _ in on_its_way(ctx, spec, STREAM_WAIT):
                    pass
            except RequestRefused as refused:
                raise ActionFailed(Failure("Loaded", "NotLoaded", refused.message)) from None
            return {"model": shown_name(spec)}

        return answer(ctx.jobs.begin(f"load {shown_name(spec)}", work).shown(), 202)

    @app.post("/v1/unload")
    async def unload() -> Response:
        spec = await _asked(ctx)
        if spec.preload:
            text = f"cannot unload {spec.name}: its manifest says preload; write 'preload: false' there, or remove it"
            raise RequestRefused(409, "preloaded", text, param="model")

        async def work(_report: Report) -> dict[str, Any]:
            ctx.loop.emit(ev.Unloaded(spec.name))
            await ctx.loop.heard()
            while any(w.stopping or not w.ready for w in ctx.loop.snapshot.observed.of(spec.name).workers):
                await ctx.loop.next_change()
            return {"model": shown_name(spec)}

        return answer(ctx.jobs.begin(f"unload {shown_name(spec)}", work).shown(), 202)


async def _asked(ctx: Context) -> ModelSpec:
    """Raises RequestRefused."""
    given = await body.read_json()
    name = given.get("model")
    if not isinstance(name, str) or set(given) - {"model"}:
        raise RequestRefused(400, "invalid_value", 'cannot tell which model is meant: the body is {"model": NAME}')
    return find_model(ctx, name)
