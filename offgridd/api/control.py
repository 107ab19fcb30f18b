"""Health, status, events, plan, reload and reconcile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from quart import Quart, Response, request

from offgridd.api.answers import PING, PING_EVENT, answer, event, raw, sse
from offgridd.api.context import Context
from offgridd.api.inference import find_model
from offgridd.core import events as ev
from offgridd.core.actions import StopWorker
from offgridd.core.conditions import all_ready, settled
from offgridd.core.errors import ManifestError
from offgridd.core.plan import plan
from offgridd.reconcile.intake import Seen, parse
from offgridd.reconcile.loop import Reconciler


def add_control(app: Quart, ctx: Context) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        good = is_ready(ctx.loop) and not ctx.draining()
        return answer({"ready": good}, 200 if good else 503)

    @app.get("/v1/status")
    async def status() -> Response:
        return raw(ctx.status.encoded)

    @app.get("/v1/events")
    async def events() -> Response:
        return sse(_events(ctx))

    @app.post("/v1/plan")
    async def plan_text() -> Response:
        text = await request.get_data()
        assert isinstance(text, bytes)  # as_text is False
        return answer(await anyio.to_thread.run_sync(describe_plan, ctx, text))

    @app.post("/v1/reload")
    async def reload() -> Response:
        return _seen(await ctx.reload())

    @app.post("/v1/reconcile")
    async def reconcile() -> Response:
        name = request.args.get("model")
        spec = find_model(ctx, name) if name else None
        ctx.loop.emit(ev.Reconsidered(spec.name if spec else None))
        ctx.loop.look_again()
        return answer({"generation": ctx.desired.generation}, 202)


def _seen(seen: Seen) -> Response:
    value = {"generation": seen.generation, "accepted": not seen.problems, "changed": seen.changed,
             "errors": [str(p) for p in seen.problems]}  # fmt: skip
    return answer(value, 200 if not seen.problems else 422)


def is_ready(loop: Reconciler) -> bool:
    """What READY=1 and /readyz mean, by the manifest's own policy."""
    snapshot = loop.snapshot
    policy = snapshot.desired.server.ready
    done = {"listening": lambda *_: True, "settled": settled, "preloaded": all_ready}[policy]
    return snapshot.observed.listening and snapshot.desired.generation > 0 and done(snapshot.desired, snapshot.observed)


def describe_plan(ctx: Context, text: bytes) -> dict[str, Any]:
    """What would be done if `text` were the manifest."""
    try:
        wanted = parse([("manifest", text)])
    except ManifestError as error:
        return {"valid": False, "errors": [str(p) for p in error.problems], "actions": []}
    snapshot = ctx.loop.snapshot
    made = plan(wanted, snapshot.observed, ctx.loop.clock())
    actions = [
        {"action": "drain" if isinstance(a, StopWorker) else type(a).__name__, "model": a.model} for a in made.start
    ]
    before, after = snapshot.desired.models, wanted.models
    actions += [{"action": "Live", "model": n} for n in after if n in before and before[n] != after[n]
                and n not in {a["model"] for a in actions}]  # fmt: skip
    return {"valid": True, "errors": [], "actions": actions, "changes": wanted.digest != snapshot.desired.digest}


async def _events(ctx: Context) -> AsyncIterator[bytes]:
    """Condition transitions as they come. Lossy by design: the state itself is in /v1/status."""
    yield b": connected\n\n"
    while True:
        changed = False
        with anyio.move_on_after(PING):
            await ctx.loop.next_change()
            changed = True
        if not changed:
            yield PING_EVENT
        for one in ctx.status.transitions if changed else ():
            yield event(one)
