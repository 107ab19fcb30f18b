"""Chat and the list of models. What a request means is in `chat`; here it meets a worker."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import anyio
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import PING, PING_EVENT, answer, error_body, event, sse
from offgridd.api.chat import ChatRequest, parse_chat
from offgridd.api.context import Context, WorkerPort
from offgridd.core import events as ev
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.engine import wire

LOADING_WAIT = 120.0  # seconds a request waits for a model that is loading
STREAM_WAIT = 3600.0  # the same for a stream, whose client hears that we are there


def refusal(frame: wire.Refused) -> RequestRefused:
    """What a worker refused, as the client sees it."""
    return RequestRefused(frame.status, frame.code, frame.message, param=frame.param, retry_after=frame.retry_after)


def find_model(ctx: Context, name: str) -> ModelSpec:
    found = ctx.desired.find(name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(m.name for m in found)
        raise RequestRefused(409, "model_ambiguous", f"cannot tell which model is meant: {names}", param="model")
    text = f"cannot find the model {name[:128]!r}: the manifest declares none of that name"
    raise RequestRefused(404, "model_not_found", text, param="model")


async def worker_for(ctx: Context, spec: ModelSpec) -> WorkerPort:
    """The worker that serves `spec`; waits, within bounds, for one that is on its way. Raises RequestRefused."""
    async with aclosing(_on_its_way(ctx, spec, LOADING_WAIT)) as coming:
        return await anext(worker async for worker in coming if worker is not None)


async def _on_its_way(ctx: Context, spec: ModelSpec, most: float) -> AsyncGenerator[WorkerPort | None, None]:
    """None whenever there was nothing new for PING seconds, then the worker. Raises RequestRefused."""
    found, until = _serving(ctx, spec), anyio.current_time() + most
    if found is None:
        ctx.loop.emit(ev.Demanded(spec.name))
    while found is None:
        quiet = True
        with anyio.move_on_after(min(PING, until - anyio.current_time())):
            await ctx.loop.next_change()
            quiet = False
        if anyio.current_time() >= until:
            text = f"cannot serve {spec.name}: it is still loading"
            raise RequestRefused(503, "model_not_ready", text, retry_after=10)
        if quiet:
            yield None
        found = _serving(ctx, spec)
    yield found


def _serving(ctx: Context, spec: ModelSpec) -> WorkerPort | None:
    """None where waiting makes sense. Raises RequestRefused where it does not."""
    found = ctx.workers.serving(spec.name)
    if found is not None:
        return found
    if ctx.draining():
        raise RequestRefused(503, "shutting_down", "cannot take requests: the daemon is stopping", retry_after=5)
    snapshot = ctx.loop.snapshot
    now = snapshot.desired.models.get(spec.name)
    if now is None:
        raise RequestRefused(404, "model_not_found", f"cannot serve {spec.name}: it was removed", param="model")
    conditions = model_conditions(now, snapshot.observed.of(spec.name), snapshot.observed)
    stuck = next((c for c in conditions if c.status == "False"), None)
    if stuck is not None and stuck.reason not in ("Loading", "OnDemand"):
        text = f"cannot serve {spec.name}: {stuck.reason}: {stuck.message}"
        raise RequestRefused(503, "model_not_ready", text, retry_after=5)
    return None


def add_inference(app: Quart, ctx: Context) -> None:
    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        asked = parse_chat(await body.read_json())
        spec = find_model(ctx, asked.model)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": spec.name}
        client = request.remote_addr or "local"
        if asked.stream and _serving(ctx, spec) is None:
            return sse(_when_loaded(ctx, asked, spec, client, head))
        frames = await _admitted(ctx, asked, spec, client)
        if asked.stream:
            return sse(_chunks(head, frames, asked.include_usage))  # which closes them
        async with aclosing(frames):
            return await _whole(head, frames)

    @app.get("/v1/models")
    async def models() -> Response:
        return answer({"object": "list", "data": [_model_card(ctx, m) for m in ctx.desired.models.values()]})

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> Response:
        return answer(_model_card(ctx, find_model(ctx, name)))


async def _admitted(ctx: Context, asked: ChatRequest, spec: ModelSpec, client: str) -> AsyncGenerator[Any, None]:
    """The answer's frames, once the worker has admitted it: what it refuses still gets a status of its own."""
    worker = await worker_for(ctx, spec)
    frames = worker.stream(_to_wire(ctx, asked, spec, client), PING)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(aclosing(frames))
        while (first := await anext(frames)) is None:
            pass  # it waits in the queue
        if isinstance(first, wire.Refused):
            raise refusal(first)
        stack.pop_all()
    return _again(first, frames)


async def _again(first: Any, rest: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    async with aclosing(rest):
        yield first
        async for frame in rest:
            yield frame


async def _when_loaded(
    ctx: Context, asked: ChatRequest, spec: ModelSpec, client: str, head: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    """The stream of a model that is loading: pings until it is there; a later refusal is an event and no [DONE]."""
    yield PING_EVENT
    try:
        async with aclosing(_on_its_way(ctx, spec, STREAM_WAIT)) as coming:
            async for worker in coming:
                if worker is None:
                    yield PING_EVENT
                    continue
                frames = worker.stream(_to_wire(ctx, asked, spec, client), PING)
                async with aclosing(_chunks(head, frames, asked.include_usage)) as chunks:
                    async for chunk in chunks:
                        yield chunk
    except RequestRefused as error:
        yield event({"error": error_body(error)})


def _to_wire(ctx: Context, asked: ChatRequest, spec: ModelSpec, client: str) -> wire.Chat:
    stop = asked.stop if asked.stop is not None else spec.sampling.stop
    limit = asked.max_tokens if asked.max_tokens is not None else spec.sampling.max_tokens
    return wire.Chat(ctx.workers.next_request(), client, asked.messages, asked.sampling(spec.sampling), limit, stop)


def _model_card(ctx: Context, spec: ModelSpec) -> dict[str, Any]:
    serving = ctx.loop.snapshot.observed.of(spec.name).serving()
    context = serving.effective.context if serving and serving.effective else spec.load.context
    return {"id": spec.name, "object": "model", "created": 0, "owned_by": "offgridd", "aliases": list(spec.aliases),
            "description": spec.description, "context_length": context, "ready": serving is not None}  # fmt: skip


def _usage(end: wire.Finish) -> dict[str, Any]:
    total = end.prompt_tokens + end.completion_tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens, "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": end.cached_tokens}}  # fmt: skip


async def _whole(head: dict[str, Any], frames: AsyncIterator[Any]) -> Response:
    parts: list[str] = []
    async for frame in frames:
        match frame:
            case wire.Tokens(items):
                parts += [text for _, text, _ in items]
            case wire.Refused():
                raise refusal(frame)
            case wire.Finish():
                message = {"role": "assistant", "content": "".join(parts), "refusal": None}
                choice = {"index": 0, "message": message, "finish_reason": frame.reason, "logprobs": None}
                usage = _usage(frame)
                return answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    raise RequestRefused(503, "worker_crashed", "cannot finish the answer: the worker ended", retry_after=2)


async def _chunks(
    head: dict[str, Any], frames: AsyncGenerator[Any, None], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Chunks, then [DONE]; an answer that breaks off ends in an error event and no [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return event({**head, "choices": [choice]} | ({"usage": None} if include_usage else {}))

    async with aclosing(frames):
        async for frame in frames:
            match frame:
                case wire.Admitted():
                    yield chunk({"role": "assistant", "content": ""})
                case None:
                    yield PING_EVENT
                case wire.Tokens(items):
                    if text := "".join(t for _, t, _ in items):
                        yield chunk({"content": text})
                case wire.Refused():
                    yield event({"error": error_body(refusal(frame))})
                    return
                case wire.Finish():
                    yield chunk({}, frame.reason)
                    if include_usage:
                        yield event({**head, "choices": [], "usage": _usage(frame)})
                    yield b"data: [DONE]\n\n"
