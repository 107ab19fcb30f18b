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
from offgridd.api.answers import PING, answer, error_body, event, sse
from offgridd.api.chat import ChatRequest, parse_chat
from offgridd.api.context import Context, WorkerPort
from offgridd.core import events as ev
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.engine import wire

LOADING_WAIT = 120.0  # seconds a request waits for a model that is loading


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
    """The worker that serves `spec`; waits, within bounds, for one that is on its way."""
    found = ctx.workers.serving(spec.name)
    if found is not None:
        return found
    if ctx.draining():
        raise RequestRefused(503, "shutting_down", "cannot take requests: the daemon is stopping", retry_after=5)
    ctx.loop.emit(ev.Demanded(spec.name))
    with anyio.move_on_after(LOADING_WAIT):
        while True:
            await ctx.loop.next_change()
            found = ctx.workers.serving(spec.name)
            if found is not None:
                return found
            snapshot = ctx.loop.snapshot
            facts = snapshot.observed.of(spec.name)
            now = snapshot.desired.models.get(spec.name, spec)
            stuck = [c for c in model_conditions(now, facts, snapshot.observed) if c.status == "False"]
            if stuck and stuck[0].reason not in ("Loading", "OnDemand"):
                text = f"cannot serve {spec.name}: {stuck[0].reason}: {stuck[0].message}"
                raise RequestRefused(503, "model_not_ready", text, retry_after=5)
    raise RequestRefused(503, "model_not_ready", f"cannot serve {spec.name}: it is still loading", retry_after=10)


def add_inference(app: Quart, ctx: Context) -> None:
    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        asked = parse_chat(await body.read_json())
        spec = find_model(ctx, asked.model)
        worker = await worker_for(ctx, spec)
        frames = worker.stream(_to_wire(ctx, asked, spec), PING)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(aclosing(frames))
            while (first := await anext(frames)) is None:
                pass  # it waits in the queue
            if isinstance(first, wire.Refused):
                raise refusal(first)
            head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": spec.name}
            if not asked.stream:
                return await _whole(head, frames, first.prompt_tokens)
            stack.pop_all()  # the response closes it
            return sse(_chunks(head, frames, asked.include_usage))

    @app.get("/v1/models")
    async def models() -> Response:
        return answer({"object": "list", "data": [_model_card(ctx, m) for m in ctx.desired.models.values()]})

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> Response:
        return answer(_model_card(ctx, find_model(ctx, name)))


def _to_wire(ctx: Context, asked: ChatRequest, spec: ModelSpec) -> wire.Chat:
    stop = asked.stop if asked.stop is not None else spec.sampling.stop
    limit = asked.max_tokens if asked.max_tokens is not None else spec.sampling.max_tokens
    client = request.remote_addr or "local"
    return wire.Chat(ctx.workers.next_request(), client, asked.messages, asked.sampling(spec.sampling), limit, stop)


def _model_card(ctx: Context, spec: ModelSpec) -> dict[str, Any]:
    serving = ctx.loop.snapshot.observed.of(spec.name).serving()
    context = serving.effective.context if serving and serving.effective else spec.load.context
    return {"id": spec.name, "object": "model", "created": 0, "owned_by": "offgridd", "aliases": list(spec.aliases),
            "description": spec.description, "context_length": context, "ready": serving is not None}  # fmt: skip


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


async def _whole(head: dict[str, Any], frames: AsyncIterator[Any], prompt: int) -> Response:
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
                usage = _usage(prompt, frame.completion_tokens)
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
        yield chunk({"role": "assistant", "content": ""})
        async for frame in frames:
            match frame:
                case None:
                    yield b": ping\n\n"
                case wire.Tokens(items):
                    if text := "".join(t for _, t, _ in items):
                        yield chunk({"content": text})
                case wire.Refused():
                    yield event({"error": error_body(refusal(frame))})
                    return
                case wire.Finish():
                    yield chunk({}, frame.reason)
                    if include_usage:
                        yield event(
                            {**head, "choices": [], "usage": _usage(frame.prompt_tokens, frame.completion_tokens)}
                        )
                    yield b"data: [DONE]\n\n"
