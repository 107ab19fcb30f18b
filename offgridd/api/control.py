"""Health, metrics, plan, reload, reconcile and retry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.metrics import Totals
from offgridd.api.texts import files_of
from offgridd.api.waiting import find_model
from offgridd.core import events as ev
from offgridd.core.edits import changes, hold_back
from offgridd.core.errors import ManifestError, RequestRefused
from offgridd.core.gitsource import Files, of_repository
from offgridd.core.naming import shown_name
from offgridd.core.plan import standing_failure
from offgridd.core.readiness import is_ready
from offgridd.core.tuned import all_as_declared
from offgridd.reconcile.intake import Seen, parse

LOOK = 10.0  # seconds for a look at all files: a file system may hang


def add_control(app: Quart, ctx: Context) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        good = is_ready(ctx.desired, ctx.loop.snapshot.observed) and not ctx.draining()
        return answer({"ready": good}, 200 if good else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        text = await anyio.to_thread.run_sync(
            _exposition, dict(ctx.metrics.models), ctx.status.ready, ctx.status.gauges, ctx.newest()
        )
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/logs")
    async def logs() -> Response:
        name = find_model(ctx, request.args.get("model", "")).name
        return answer({"model": name, "text": ctx.workers.printed(name)})

    @app.post("/v1/plan")
    async def plan_text() -> Response:
        files = await _plan_files()
        kept = of_repository(ctx.texts())
        return answer(await anyio.to_thread.run_sync(describe_plan, ctx, files, kept))

    @app.post("/v1/reload")
    async def reload() -> Response:
        return _seen(await ctx.reload(rewind=request.args.get("rewind") == "1"))

    @app.post("/v1/reconcile")
    async def reconcile() -> Response:
        name = request.args.get("model")
        spec = find_model(ctx, name) if name else None
        ctx.loop.emit(ev.Reconsidered(spec.name if spec else None))
        with anyio.move_on_after(LOOK):  # who waits for Ready next must not be told of what was before
            await ctx.loop.looked()
        return answer({"generation": ctx.desired.generation}, 202)

    @app.post("/v1/retry")
    async def retry() -> Response:
        given = await body.read_json()
        if not isinstance(given.get("model"), str) or len(given) > 1:
            raise RequestRefused(400, "invalid_value", 'cannot tell what to try again: the body is {"model": NAME}')
        spec = find_model(ctx, given["model"])
        ctx.loop.emit(ev.Reconsidered(spec.name))
        ctx.loop.emit(ev.Decided(spec.name, None))
        observed = ctx.loop.snapshot.observed
        hopeless = standing_failure(spec, observed.of(spec.name), observed.engine) is not None
        # What it can not be loaded with any more is no start for another search.
        ctx.loop.emit(ev.Tuned(spec.name, None) if hopeless else ev.Retuned(spec.name))
        await ctx.loop.heard()
        return answer({"model": shown_name(spec)}, 202)


def _exposition(
    totals: dict[str, Totals], ready: dict[str, bool], whole: dict[str, float],
    measured: Mapping[str, Mapping[str, Any]],
) -> bytes:  # fmt: skip
    from offgridd.api.prometheus import exposition  # only where somebody asks: it takes a while to import

    return exposition(totals, ready, whole, measured)


def _seen(seen: Seen) -> Response:
    value = {"generation": seen.generation, "accepted": not seen.problems, "changed": seen.changed,
             "errors": [str(p) for p in seen.problems], "notes": list(seen.notes)}  # fmt: skip
    return answer(value, 200 if not seen.problems else 422)


async def _plan_files() -> Files:
    """The files of a JSON request; else its body is the manifest's own text."""
    if request.mimetype != "application/json":
        return [("manifest", await body.read_body())]
    return files_of(await body.read_json())


def describe_plan(ctx: Context, files: Files, kept: Files) -> dict[str, Any]:
    """What would be done if `files` were the manifest and its conf.d: by model, or `server` for its own fields.

    `kept` is what was fetched of the repository that is followed now. What another one has is not known: `git`.
    """
    before = all_as_declared(ctx.desired)
    try:
        wanted = parse(files)
        known = wanted.git is None or (before.git is not None and before.git.same_content(wanted.git))
        if wanted.git is not None and known and kept:
            wanted = parse([*files, *kept])
    except ManifestError as error:
        return {"valid": False, "errors": [str(p) for p in error.problems], "actions": []}
    after = hold_back(before, wanted if known else replace(wanted, models=before.models))
    actions: list[dict[str, str | None]] = [{"action": c.kind, "model": c.model} for c in changes(before, after)]
    actions += [{"action": "held", "model": name} for name in after.held]
    actions += [{"action": "measure", "model": name} for name in after.challengers]
    actions += [{"action": "server", "model": None}] if before.server != after.server else []
    actions += [{"action": "git", "model": None}] if not known else []
    return {"valid": True, "errors": [], "actions": actions, "changes": wanted.digest != before.digest}
