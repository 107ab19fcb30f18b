"""POST /v1/bundle/export and /v1/bundle/import: jobs that write to, or read from, what their client hands over.

For the admin socket: the answer says at which other socket the file is to be handed over.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from quart import Quart, Response

from offgridd.api import body, handover
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.core import events as ev
from offgridd.core.adapters import with_adapters_of
from offgridd.core.bundle import may_pin
from offgridd.core.desired import ModelSpec, RemoteSource
from offgridd.core.errors import RequestRefused
from offgridd.core.hub import Pin
from offgridd.core.plan import current_file, current_pin
from offgridd.effects.bundling import Run

Chosen = dict[str, tuple[ModelSpec, Pin]]


def add_bundle(app: Quart, ctx: Context) -> None:
    @app.post("/v1/bundle/export")
    async def export() -> Response:
        given = await body.read_json()
        chosen, left_out = _chosen(ctx, _names(given))
        if not chosen:
            text = (
                "cannot export: no model of the manifest comes from a hub or an address, so there is nothing to carry"
            )
            raise RequestRefused(409, "nothing_to_bundle", text)

        async def work(sock: socket.socket, report: Report) -> dict[str, Any]:
            await ctx.bundling.export(Run(sock, report), ctx.texts(), chosen)
            return {"models": sorted(chosen), "left_out": left_out}

        return handover.begin(ctx, "export a bundle", work)

    @app.post("/v1/bundle/import")
    async def take() -> Response:
        await body.read_json()  # who answers before all was read closes the connection in its client's face

        async def work(sock: socket.socket, report: Report) -> dict[str, Any]:
            pins = await ctx.bundling.take(Run(sock, report))
            specs = with_adapters_of(ctx.desired.models)
            for name, pin in pins.items():
                spec = specs.get(name)
                if spec is not None and may_pin(spec, pin):
                    ctx.loop.emit(ev.Resolved(name, pin))  # also where it was pinned to something else before
            ctx.loop.emit(ev.Reconsidered())
            return {"models": sorted(pins)}

        return handover.begin(ctx, "import a bundle", work)


def _names(given: Mapping[str, Any]) -> Sequence[str] | None:
    names = given.get("models")
    if names is not None and (not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
        raise RequestRefused(400, "invalid_value", "cannot export: models must be a list of names", param="models")
    return names


def _chosen(ctx: Context, names: Sequence[str] | None) -> tuple[Chosen, list[dict[str, str]]]:
    """What is to be carried, and what of all is not and why. Raises RequestRefused."""
    models = ctx.desired.models
    for name in names or ():
        if name not in models:
            text = f"cannot export {name[:64]!r}: the manifest declares no model of that name"
            raise RequestRefused(404, "model_not_found", text, param="models")
    chosen: Chosen = {}
    left_out: list[dict[str, str]] = []
    wanted = {name: models[name] for name in (models if names is None else names)}
    for name, spec in with_adapters_of(wanted).items():
        facts = ctx.loop.snapshot.observed.of(name)
        pin = current_pin(spec, facts)
        if not isinstance(spec.source, RemoteSource):
            left_out.append({"model": name, "why": "its file is of this machine: it was never fetched"})
        elif pin is None or current_file(spec, facts) is None:
            text = f"cannot export {name}: its files are not here yet; offgrid status says why"
            raise RequestRefused(409, "not_verified", text, param="models")
        else:
            chosen[name] = spec, pin
    if refused := next((one for one in left_out if one["model"] in (names or ())), None):
        raise RequestRefused(409, "not_fetched", f"cannot export {refused['model']}: {refused['why']}")
    return chosen, left_out
