"""POST /v1/benchmark measures a model and answers at its end, or tells as it goes; GET /v1/benchmarks: what was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import PING, PING_EVENT, answer, error_body, event, raw, sse
from offgridd.api.context import Context, WorkerPort
from offgridd.api.params import bad, integer
from offgridd.api.waiting import check_purpose, find_model, worker_for
from offgridd.core.benchmark import MOST_ITERATIONS, MOST_KINDS, MOST_TOKENS, Workload, host_kind
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.core.fit import estimate
from offgridd.core.keys import load_key
from offgridd.core.naming import shown_name
from offgridd.core.observed import VerifiedFile, Worker
from offgridd.core.plan import current_file
from offgridd.effects.benchmarks import Subject
from offgridd.effects.benchrecords import Wanted
from offgridd.effects.environment import kind

_DEFAULT = Workload()
MOST_SHOWN, MOST_NUMBER = 1000, 99_999_999


@dataclass(frozen=True, slots=True)
class Asked:
    """`quality`: whether its quality is probed, too."""

    spec: ModelSpec
    workload: Workload
    quality: bool


def add_benchmark(app: Quart, ctx: Context) -> None:
    @app.post("/v1/benchmark")
    async def benchmark() -> Response:
        given = await body.read_json()
        if not isinstance(given.get("model"), str):
            raise bad("model", "it must be the name of a model")
        quality = given.pop("quality", False)
        if not isinstance(quality, bool):
            raise bad("quality", "it must be true or false")
        asked = Asked(find_model(ctx, given["model"]), parse_workload(given), quality)
        check_purpose(ctx, asked.spec, "text")
        if "text/event-stream" in request.headers.get("Accept", ""):
            return sse(_progress(ctx, asked))
        return answer(shown(await _run(ctx, asked, lambda _: None)))

    @app.get("/v1/benchmarks")
    async def benchmarks() -> Response:
        name, limit = request.args.get("model"), _number("limit", MOST_SHOWN) or 100
        known, key = (None, "") if name is None else _known_as(ctx, name)
        current = request.args.get("current") == "1"  # however many of other ways to load it are newer
        before = _number("before", MOST_NUMBER)
        wanted = Wanted(known, MOST_SHOWN if current else limit, before, current, key if current else None)

        def listed() -> bytes:
            found = [
                one for one in ctx.measured.listed(wanted) if not current or host_kind(one["environment"]) == kind()
            ]
            return msgspec.json.encode({"model": known, "benchmarks": [shown(one) for one in found[:limit]]})

        return raw(await anyio.to_thread.run_sync(listed))  # records may be many and large


def shown(record: dict[str, Any]) -> dict[str, Any]:
    """A record, with the figures of its first kind under plain names."""
    first = record["results"][0] if record["results"] else {}

    def median(name: str) -> float | None:
        found = first.get(name)
        return found["median"] if found else None

    return {
        "prompt_tokens_per_second": median("prompt_tps"), "generation_tokens_per_second": median("generation_tps"),
        "time_to_first_token_seconds": median("ttft"), "total_seconds": median("total"),
        "memory_mb": round((record["memory"]["own_peak_bytes"] + record["memory"]["mapped_bytes"]) / 1e6, 1),
        "iterations": record["workload"]["iterations"], **record,
    }  # fmt: skip


def parse_workload(given: dict[str, Any]) -> Workload:
    """Raises RequestRefused naming the parameter."""
    known = {"model", *asdict(_DEFAULT)}
    for name in given:
        if name not in known:
            raise bad(name[:64], "there is no such parameter", "unknown_parameter")
    given = {**asdict(_DEFAULT), **given}
    prompt = integer("prompt_tokens", given["prompt_tokens"], 0, MOST_TOKENS)
    output = integer("output_tokens", given["output_tokens"], 0, MOST_TOKENS)
    found = Workload(
        prompt, output, integer("iterations", given["iterations"], 1, MOST_ITERATIONS),
        _integers("concurrency", given["concurrency"], 1, 255), _integers("depth", given["depth"], 0, MOST_TOKENS),
    )  # fmt: skip
    if not prompt and (output < 2 or 0 in found.depth):
        raise bad("prompt_tokens", "without a prompt there must be a depth, and two tokens of answer to time")
    if len(found.kinds) > MOST_KINDS:
        raise bad("depth", f"with concurrency they make {len(found.kinds)} kinds of runs, the limit is {MOST_KINDS}")
    return found


async def _run(ctx: Context, asked: Asked, tell: Any) -> dict[str, Any]:
    """Raises RequestRefused."""
    spec = asked.spec
    await worker_for(ctx, spec, apart=True)
    await ctx.loop.heard()  # what it has made of the file, where it has just become ready
    _, first, file, engine = await _serving(ctx, spec)
    if first.effective is None:
        raise _gone(spec)

    async def same() -> WorkerPort:
        port, now, *_ = await _serving(ctx, spec)
        if now.load_key != first.load_key:  # one record is of one way to load it
            raise _changed(spec)
        return port

    described = {"sha256": file.sha256, "size": file.size}
    needs = estimate(file.header, spec.load, ctx.loop.snapshot.observed.host.features, spec.cache_ram)
    subject = Subject(
        shown_name(spec), first.load_key, described, asdict(first.effective), engine, spec.benchmark, same,
        estimate=needs,
    )  # fmt: skip

    async def quality() -> dict[str, Any]:
        return {"quality": await ctx.quality.probe(subject, tell)}

    return await ctx.benchmarks.run(subject, asked.workload, tell, quality if asked.quality else None)


async def _serving(ctx: Context, spec: ModelSpec) -> tuple[WorkerPort, Worker, VerifiedFile, str]:
    """Who serves, what of, and in which engine: as it is declared now. Raises RequestRefused."""
    port = await worker_for(ctx, spec, apart=True)  # in use again before the loop could think that it is idle
    snapshot = ctx.loop.snapshot
    observed, now = snapshot.observed, snapshot.desired.models.get(spec.name, spec)
    facts = observed.of(spec.name)
    file, worker = current_file(now, facts), next((w for w in facts.workers if w.pid == port.pid), None)
    if file is None or worker is None:
        raise _gone(spec)
    if worker.load_key != load_key(now, file.key, observed.engine):
        raise _changed(spec)
    return port, worker, file, observed.engine


def _gone(spec: ModelSpec) -> RequestRefused:
    text = f"cannot measure {shown_name(spec)}: it has just gone"
    return RequestRefused(503, "model_not_ready", text, retry_after=5)


def _changed(spec: ModelSpec) -> RequestRefused:
    text = f"cannot measure {shown_name(spec)}: what it is loaded with changes; try again when it is Ready"
    return RequestRefused(409, "model_changed", text, retry_after=5)


async def _progress(ctx: Context, asked: Asked) -> AsyncIterator[bytes]:
    """What happens, then the result or an error. A client that leaves ends it."""
    sent, received = anyio.create_memory_object_stream[dict[str, Any]](1024)

    def tell(item: dict[str, Any]) -> None:
        with suppress(anyio.WouldBlock):  # a client that does not read misses how far it is, and not the result
            sent.send_nowait(item)

    async def work() -> None:
        async with sent:
            try:
                record = await _run(ctx, asked, tell)
                await sent.send({"result": shown(record)})
            except RequestRefused as error:
                await sent.send({"error": error_body(error)})

    yield PING_EVENT
    async with anyio.create_task_group() as group, received:
        group.start_soon(work)
        while True:
            item: dict[str, Any] | None = None
            with anyio.move_on_after(PING):
                try:
                    item = await received.receive()
                except anyio.EndOfStream:
                    return
            yield PING_EVENT if item is None else event(item)


def _known_as(ctx: Context, name: str) -> tuple[str, str]:
    """What results of the model are kept under, also where it is not declared any more; and what it is loaded with."""
    try:
        spec = find_model(ctx, name)
    except RequestRefused:
        return name, ""
    observed = ctx.loop.snapshot.observed
    file = current_file(spec, observed.of(spec.name))
    return shown_name(spec), load_key(spec, file.key, observed.engine) if file else ""


def _number(name: str, most: int) -> int | None:
    """Of the present request's query. Raises RequestRefused."""
    given = request.args.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and 1 <= int(given) <= most):
        raise bad(name, f"it must be a number from 1 to {most}")
    return int(given)


def _integers(name: str, value: Any, low: int, high: int) -> tuple[int, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(values) <= MOST_KINDS or len(set(map(str, values))) < len(values):
        raise bad(name, f"it must be a number, or a list of up to {MOST_KINDS} different ones")
    return tuple(integer(name, one, low, high) for one in values)
