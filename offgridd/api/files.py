"""Jobs, list and remove: files that are kept beside what is declared. For the admin socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import PING, PING_EVENT, answer, event, sse
from offgridd.api.context import Context
from offgridd.api.jobs import Job, watch
from offgridd.api.search import text_of
from offgridd.core import events as ev
from offgridd.core.adapters import with_adapters_of
from offgridd.core.errors import ActionFailed, RequestRefused
from offgridd.core.naming import find_in


def add_files(app: Quart, ctx: Context) -> None:
    @app.get("/v1/jobs")
    async def jobs() -> Response:
        return answer({"jobs": [job.shown() for job in ctx.jobs.all()]})

    @app.get("/v1/jobs/<job>")
    async def one(job: str) -> Response:
        found = _job(ctx, job)
        streamed = "text/event-stream" in request.headers.get("Accept", "")
        return sse(_events(found, ctx.draining)) if streamed else answer(found.shown())

    @app.delete("/v1/jobs/<job>")
    async def cancel(job: str) -> Response:
        found = _job(ctx, job)
        found.scope.cancel()
        await found.over.wait()
        return answer(found.shown())

    @app.get("/v1/list")
    async def listing() -> Response:
        return answer({"files": await ctx.keeper.listing(with_adapters_of(ctx.desired.models))})

    @app.post("/v1/rm")
    async def remove() -> Response:
        name = text_of(await body.read_json(), "model") or ""
        found = find_in(ctx.keeper.kept, name)
        if not found:
            declared = find_in(ctx.desired.models, name)
            why = f"it is declared as {declared[0].name}; take it out of the manifest" if declared else "there is none"
            raise RequestRefused(409 if declared else 404, "not_kept", f"cannot remove {name[:128]!r}: {why}")
        if len(found) > 1:
            names = ", ".join(m.name.removeprefix("kept/") for m in found)
            raise RequestRefused(409, "model_ambiguous", f"cannot tell which file is meant: {names}", param="model")
        try:
            ctx.loop.emit(ev.KeptRemoved(found[0].name))
            freed = await ctx.keeper.remove(found[0].name, with_adapters_of(ctx.desired.models))
        except ActionFailed as failed:
            raise RequestRefused(500, failed.failure.reason, failed.failure.message) from failed
        return answer({"removed": found[0].name.removeprefix("kept/"), "freed": freed})


async def _events(job: Job, ends: Callable[[], bool]) -> AsyncIterator[bytes]:
    async with aclosing(watch(job, PING, ends)) as seen:
        async for one in seen:
            yield PING_EVENT if one is None else event(one)
    if job.over.is_set():
        yield b"data: [DONE]\n\n"


def _job(ctx: Context, job: str) -> Job:
    found = ctx.jobs.find(job)
    if found is None:
        raise RequestRefused(404, "not_found", f"cannot find the job {job[:32]!r}: there is none, or it is long over")
    return found
