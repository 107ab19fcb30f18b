"""From a model's name to the worker that serves it, also where that is still on its way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import anyio

from offgridd.api.answers import PING
from offgridd.api.context import Context, WorkerPort
from offgridd.core import events as ev
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.core.naming import find_in, shown_name
from offgridd.core.plan import current_file, current_retry, short_of, standing_failure
from offgridd.core.purpose import Purpose, pooling_of, why_not
from offgridd.engine import wire

LOADING_WAIT = 120.0  # seconds a request waits for a model that is loading
STREAM_WAIT = 3600.0  # the same for a stream, whose client hears that we are there


def find_model(ctx: Context, name: str) -> ModelSpec:
    found = find_in(ctx.desired.models, name)
    if not found and ctx.desired.server.undeclared == "serve":
        found = find_in(ctx.keeper.kept, name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(m.name.removeprefix("kept/") for m in found)
        raise RequestRefused(409, "model_ambiguous", f"cannot tell which model is meant: {names}", param="model")
    text = f"cannot find the model {name[:128]!r}: the manifest declares none of that name"
    raise RequestRefused(404, "model_not_found", text, param="model")


def find_dressed(ctx: Context, name: str) -> tuple[ModelSpec, tuple[str, ...]]:
    """The model of a name, and the adapters behind it: NAME+ADAPTER+... Raises RequestRefused."""
    try:
        return find_model(ctx, name), ()
    except RequestRefused:
        base, *adapters = name.split("+")
        if not adapters:
            raise
    spec = find_model(ctx, base)
    known = [one.name for one in spec.load.adapters]
    for adapter in adapters:
        if adapter not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            text = f"cannot find the adapter {adapter[:128]!r} of {shown_name(spec)}: {has}"
            raise RequestRefused(404, "model_not_found", text, param="model")
    serving = ctx.loop.snapshot.observed.of(spec.name).serving()
    there = serving.effective.adapters if serving is not None and serving.effective is not None else known
    if missing := next((adapter for adapter in adapters if adapter not in there), None):
        text = f"cannot answer with the adapter {missing!r} yet: {shown_name(spec)} is not loaded with it"
        raise RequestRefused(503, "model_not_ready", text, retry_after=5)
    return spec, tuple(adapters)


def check_purpose(ctx: Context, spec: ModelSpec, wanted: Purpose) -> None:
    """Before it is loaded for nothing: as far as its file is known. Raises RequestRefused."""
    file = current_file(spec, ctx.loop.snapshot.observed.of(spec.name))
    if file is not None and (why := why_not(pooling_of(file.header, spec.load), wanted)):
        text = f"cannot ask this of {shown_name(spec)}: {why}"
        raise RequestRefused(400, "unsupported_model", text, param="model")


async def worker_for(ctx: Context, spec: ModelSpec, *, apart: bool = False) -> WorkerPort:
    """The worker that serves `spec`; waits, within bounds, for one that is on its way. Raises RequestRefused.

    `apart`: that does not begin its idle time anew.
    """
    async with aclosing(on_its_way(ctx, spec, LOADING_WAIT, apart=apart)) as coming:
        return await anext(worker async for worker in coming if worker is not None)


class Counted:
    """A worker whose model counts as used while it works for us: it makes no room meanwhile."""

    def __init__(self, ctx: Context, model: str, worker: WorkerPort) -> None:
        self._ctx, self._model, self._worker = ctx, model, worker

    async def stream(self, chats: Sequence[wire.Request], quiet: float) -> AsyncGenerator[Any, None]:
        with used(self._ctx, self._model, apart=all(chat.probe for chat in chats)):
            async with aclosing(self._worker.stream(chats, quiet)) as frames:
                async for frame in frames:
                    yield frame

    async def measure(self, asked: wire.Bench | wire.Score) -> wire.Measured | wire.Scored | wire.Refused:
        with used(self._ctx, self._model, apart=True):
            return await self._worker.measure(asked)

    @property
    def pid(self) -> int:
        return self._worker.pid

    @property
    def load_seconds(self) -> float:
        return self._worker.load_seconds

    @property
    def built(self) -> wire.Built:
        return self._worker.built


@contextmanager
def used(ctx: Context, model: str, *, apart: bool = False) -> Iterator[None]:
    """Somebody waits for the model or has it work; `apart`: that does not begin its idle time anew."""
    ctx.loop.use(model, 1, apart=apart)
    try:
        yield
    finally:
        ctx.loop.use(model, -1, apart=apart)


async def on_its_way(
    ctx: Context, spec: ModelSpec, most: float, *, patient: bool = False, apart: bool = False
) -> AsyncGenerator[WorkerPort | None, None]:
    """None every PING seconds, then the worker. Raises RequestRefused. `apart`: as `used` has it.

    `patient`: also where the next attempt to start one has to wait.
    """
    with used(ctx, spec.name, apart=apart):  # whoever waits for it uses it: it must not be unloaded meanwhile
        found = asked_for(ctx, spec, patient=patient)
        if found is None:
            async with aclosing(_until_loaded(ctx, spec, most, patient=patient)) as coming:
                async for found in coming:
                    if found is None:
                        yield None
        assert found is not None
        yield Counted(ctx, spec.name, found)


async def _until_loaded(
    ctx: Context, spec: ModelSpec, most: float, *, patient: bool
) -> AsyncGenerator[WorkerPort | None, None]:
    """As `on_its_way`, which has asked for it. Raises RequestRefused."""
    now = anyio.current_time()
    until, ping = now + most, now + PING
    await ctx.loop.heard()  # that it is wanted
    while (found := serving_now(ctx, spec, patient=patient)) is None:
        if ctx.loop.snapshot.observed.of(spec.name).leaving:
            text = f"cannot serve {shown_name(spec)}: it was unloaded by hand while the request waited"
            raise RequestRefused(503, "model_not_ready", text, retry_after=5)
        with anyio.move_on_after(min(ping, until) - now):
            await ctx.loop.next_change()
        now = anyio.current_time()
        if now >= until:
            short = ctx.loop.snapshot.observed.short.get(spec.name)
            why = f"{short.failure.reason}: {short.failure.message}" if short else "it is still loading"
            text = f"cannot serve {shown_name(spec)}: {why}"
            raise RequestRefused(503, "model_not_ready", text, retry_after=10)
        if now >= ping:  # also where much else changes: whoever waits must hear of us
            ping = now + PING
            yield None
    yield found


def asked_for(ctx: Context, spec: ModelSpec, *, patient: bool = False) -> WorkerPort | None:
    """As `serving_now`. It is loaded, also where it failed to when nobody wanted it: who asks later may have it."""
    if ctx.workers.serving(spec.name) is None:
        ctx.loop.emit(ev.KeptDemanded(spec.name, spec) if spec.name in ctx.keeper.kept else ev.Demanded(spec.name))
    return serving_now(ctx, spec, patient=patient)


def serving_now(ctx: Context, spec: ModelSpec, *, patient: bool = False) -> WorkerPort | None:
    """None where waiting makes sense. Raises RequestRefused where it does not."""
    if ctx.draining():
        raise RequestRefused(503, "shutting_down", "cannot take requests: the daemon is stopping", retry_after=5)
    found = ctx.workers.serving(spec.name)
    if found is not None:
        return found
    snapshot = ctx.loop.snapshot
    now = snapshot.desired.models.get(spec.name) or ctx.keeper.kept.get(spec.name)
    if now is None:
        raise RequestRefused(404, "model_not_found", f"cannot serve {spec.name}: it was removed", param="model")
    facts, engine = snapshot.observed.of(spec.name), snapshot.observed.engine
    failure = standing_failure(now, facts, engine)
    if patient and (retry := current_retry(now, facts, engine)) is not None and retry.at is not None:
        failure = None
    short = short_of(now, snapshot.observed)
    if short is not None and not short.passes:
        failure = failure or short.failure
    if failure is not None:
        text = f"cannot serve {shown_name(spec)}: {failure.reason}: {failure.message}"
        raise RequestRefused(503, "model_not_ready", text, retry_after=5)
    return None
