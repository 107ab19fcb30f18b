"""Verify again what was verified once: a job. For the admin socket."""

from __future__ import annotations

from typing import Any

from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.core.adapters import with_adapters_of
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.core.naming import find_in


def add_verify(app: Quart, ctx: Context) -> None:
    @app.post("/v1/verify")
    async def verify() -> Response:
        given = await body.read_json()
        name, deep = given.get("model"), given.get("deep", False)
        if set(given) - {"model", "deep"} or not isinstance(deep, bool) or not isinstance(name, str | None):
            text = 'cannot verify: the body is {"model": NAME or null, "deep": true or false}'
            raise RequestRefused(400, "invalid_value", text)
        specs = [_meant(ctx, name)] if name is not None else [*ctx.desired.models.values(), *ctx.keeper.kept.values()]

        async def work(report: Report) -> dict[str, Any]:
            return await ctx.checker.check(specs, report, deep=deep)

        what = specs[0].name.removeprefix("kept/") if name is not None else "everything"
        return answer(ctx.jobs.begin(f"verify {what}", work).shown(), 202)


def _meant(ctx: Context, name: str) -> ModelSpec:
    """A declared model, else a kept file. Raises RequestRefused."""
    found = find_in(with_adapters_of(ctx.desired.models), name) or find_in(ctx.keeper.kept, name)
    if not found:
        text = f"cannot find the model {name[:128]!r}: none of that name is declared or kept"
        raise RequestRefused(404, "model_not_found", text, param="model")
    if len(found) > 1:
        names = ", ".join(m.name.removeprefix("kept/") for m in found)
        raise RequestRefused(409, "model_ambiguous", f"cannot tell which model is meant: {names}", param="model")
    return found[0]
