"""GET /v1/outdated: what a hub has that is newer; POST /v1/update: take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.crowd import AT_ONCE, check_crowd
from offgridd.api.jobs import Report
from offgridd.api.waiting import find_model
from offgridd.core.adapters import with_adapters_of
from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.errors import ActionFailed, Failure, RequestRefused
from offgridd.core.hub import HubFailure, Pin
from offgridd.core.plan import current_file, current_pin
from offgridd.core.updates import Look, current_look, why_fixed, why_not

Json = dict[str, Any]
_OFFLINE = HubFailure("Offline", "cannot look: offline is declared")


def add_updates(app: Quart, ctx: Context) -> None:
    looking = anyio.CapacityLimiter(AT_ONCE)

    @app.get("/v1/outdated")
    async def outdated() -> Response:
        unknown = sorted(set(request.args) - {"model", "known"})
        if unknown:
            raise _bad(unknown[0], "there is no such parameter; there are model and known")
        name, known = request.args.get("model"), request.args.get("known", "false")
        if known not in ("true", "1", "false", "0"):
            raise _bad("known", "it must be true or false")
        specs = _of_hub(ctx, name) if name else _all(ctx)
        check_crowd(looking, "look")
        async with looking:
            return answer({"models": await _rows(ctx, specs, ask=known in ("false", "0"))})

    @app.post("/v1/update")
    async def update() -> Response:
        given = await body.read_json()
        names = given.get("models")
        if names is not None and (not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
            raise _bad("models", "it must be a list of models")
        specs = _all(ctx) if names is None else [spec for name in names for spec in _of_hub(ctx, name)]

        async def work(report: Report) -> Json:
            return await _update(ctx, specs, report)

        what = specs[0].name if len(specs) == 1 else f"{len(specs)} models"
        return answer(ctx.jobs.begin(f"update {what}", work).shown(), 202)


def _all(ctx: Context) -> list[ModelSpec]:
    return [s for s in with_adapters_of(ctx.desired.models).values() if isinstance(s.source, HubSource)]


def _of_hub(ctx: Context, name: str) -> list[ModelSpec]:
    """Of a model, it and its adapters, as far as they come from a hub; or one adapter. Raises RequestRefused."""
    declared = with_adapters_of(ctx.desired.models)
    spec = declared.get(name) or find_model(ctx, name)
    if spec.name not in declared:
        text = f"cannot tell what is newer than {name[:64]!r}: it is kept as it was pulled; pull it again"
        raise RequestRefused(409, "not_declared", text, param="model")
    found = [one for one in with_adapters_of({spec.name: spec}).values() if isinstance(one.source, HubSource)]
    if not found:
        text = f"cannot tell what is newer than {spec.name}: it comes from no hub"
        raise RequestRefused(409, "not_of_a_hub", text, param="model")
    return found


async def _rows(ctx: Context, specs: Sequence[ModelSpec], *, ask: bool) -> list[Json]:
    rows: dict[str, Json] = {}

    async def one(spec: ModelSpec) -> None:
        pin, look = _known(ctx, spec)
        if ask and pin is not None and not why_fixed(spec):
            look = await _look(ctx, spec, pin)
        rows[spec.name] = _row(spec, pin, look)

    async with anyio.create_task_group() as group:
        for spec in specs:
            group.start_soon(one, spec)
    return [rows[spec.name] for spec in specs]


async def _look(ctx: Context, spec: ModelSpec, pin: Pin) -> Look:
    if not ctx.desired.server.offline:
        return await ctx.updates.look(spec, pin)
    known = _known(ctx, spec)[1]
    return known or Look("", 0.0, failure=_OFFLINE)


def _known(ctx: Context, spec: ModelSpec) -> tuple[Pin | None, Look | None]:
    facts = ctx.loop.snapshot.observed.of(spec.name)
    pin = current_pin(spec, facts)
    return pin, current_look(pin, facts.look) if pin else None


def _row(spec: ModelSpec, pin: Pin | None, look: Look | None) -> Json:
    """`outdated` is null where it is not known."""
    fixed, failure = why_fixed(spec), look.failure if look else None
    state = None if look is None or failure is not None else look.newer is not None
    return {
        "model": spec.name,
        "outdated": False if fixed else state,
        "fixed": fixed or None,
        "locked": isinstance(spec.lock, Pin),
        "pinned": pin and _shown(pin),
        "head": look.commit if look and look.commit else None,
        "newer": _shown(look.newer) if look and look.newer else None,
        "checked": round(look.at, 3) if look and look.at else None,
        "error": failure and {"code": failure.reason, "message": failure.message},
    }


def _shown(pin: Pin) -> Json:
    return {"repo": pin.repo, "commit": pin.commit, "quant": pin.quant, "size": pin.size,
            "files": [f.path for f in pin.files]}  # fmt: skip


async def _update(ctx: Context, specs: Sequence[ModelSpec], report: Report) -> Json:
    """One after the other; what fails leaves that model as it was."""
    found: Json = {"updated": [], "measured": [], "current": [], "failed": []}  # measured: first, before it serves
    for spec in specs:
        try:
            newer = await _newer(ctx, spec)
            now = newer is not None and await ctx.updates.update(spec, newer, report)
            found["current" if newer is None else "updated" if now else "measured"].append(spec.name)
        except ActionFailed as failed:
            why = failed.failure
            found["failed"].append({"model": spec.name, "code": why.reason, "message": why.message})
    return found


async def _newer(ctx: Context, spec: ModelSpec) -> Pin | None:
    """Raises ActionFailed."""
    facts = ctx.loop.snapshot.observed.of(spec.name)
    pin = current_pin(spec, facts)
    if why := why_not(spec, suspended=ctx.desired.server.suspend):
        raise _refused("Fixed", f"cannot update {spec.name}: {why}")
    if pin is None or current_file(spec, facts) is None:
        raise _refused("NotVerified", f"cannot update {spec.name}: what is declared now is not here yet")
    look = await _look(ctx, spec, pin)
    if look.failure is not None:
        raise _refused(look.failure.reason, look.failure.message)
    return look.newer


def _refused(reason: str, message: str) -> ActionFailed:
    return ActionFailed(Failure("UpToDate", reason, message))


def _bad(name: str, why: str) -> RequestRefused:
    return RequestRefused(400, "invalid_value", f"cannot use {name[:64]!r}: {why}", param=name[:64])
