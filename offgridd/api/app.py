"""The Quart app: routes, who may call them, and errors in OpenAI's shape everywhere."""

from __future__ import annotations

import ipaddress
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.to_thread
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from offgridd.api import body
from offgridd.api.chat import ChatRequest, parse_chat
from offgridd.api.status import StatusView
from offgridd.core import events as ev
from offgridd.core.actions import StopWorker
from offgridd.core.conditions import all_ready, model_conditions, settled
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.errors import ManifestError, RequestRefused
from offgridd.core.plan import plan
from offgridd.engine import wire
from offgridd.reconcile.intake import Intake, Seen, parse
from offgridd.reconcile.loop import Reconciler

LOADING_WAIT = 120.0  # seconds a request waits for a model that is loading
PING = 15.0  # seconds between comments on a silent stream
LOCAL_ONLY = {"/v1/reload", "/v1/reconcile"}  # acting routes: admin socket only, until there are keys


class WorkerPort(Protocol):
    def stream(self, chat: wire.Chat) -> AsyncIterator[Any]: ...


class WorkersPort(Protocol):
    def serving(self, model: str) -> Any: ...
    def next_request(self) -> int: ...


@dataclass
class Context:
    """What the routes work with."""

    loop: Reconciler
    workers: WorkersPort
    intake: Intake
    status: StatusView
    admin: bool  # this app stands on the admin socket
    draining: Callable[[], bool]

    @property
    def desired(self) -> Desired:
        return self.loop.snapshot.desired


def create_app(ctx: Context) -> Quart:
    app = Quart("offgridd")
    app.config.update(MAX_CONTENT_LENGTH=body.LIMIT, RESPONSE_TIMEOUT=None, BODY_TIMEOUT=60)
    app.url_map.strict_slashes = False
    _guard(app, ctx)
    _errors(app)
    _serving(app, ctx)
    _control(app, ctx)
    return app


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value), status, headers, content_type="application/json")


def problem(error: RequestRefused) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return answer({"error": error_body(error)}, error.status, headers)


def error_body(error: RequestRefused) -> dict[str, Any]:
    kind = "invalid_request_error" if error.status < 500 and error.status != 429 else "server_error"
    return {"message": error.message[:1000], "type": kind, "param": error.param, "code": error.code}


def host_allowed(host: str, desired: Desired) -> bool:
    """A loopback name, a literal of an address we listen on, or a name that the manifest allows."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower()
    if name == "localhost" or name in desired.server.allowed_hosts:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(address.compressed in entry for entry in desired.server.listen)


def _guard(app: Quart, ctx: Context) -> None:
    @app.before_request
    async def check() -> None:
        if ctx.admin:
            return
        if not host_allowed(request.headers.get("Host", ""), ctx.desired):
            raise RequestRefused(403, "host_not_allowed", "cannot serve this Host; add it to server.allowed_hosts")
        if "Origin" in request.headers:
            raise RequestRefused(403, "origin_not_allowed", "cannot serve requests from web pages of other origins")
        if request.path.rstrip("/") in LOCAL_ONLY:
            text = "cannot act over TCP: this route is for the admin socket; use the offgrid command"
            raise RequestRefused(403, "admin_only", text)


def _errors(app: Quart) -> None:
    @app.errorhandler(RequestRefused)
    async def refused(error: RequestRefused) -> Response:
        return problem(error)

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}.get(error.code or 500)
        return problem(
            RequestRefused(error.code or 500, code or "http_error", f"cannot serve this: {error.name.lower()}")
        )

    @app.errorhandler(Exception)
    async def bug(error: Exception) -> Response:
        app.logger.exception("a route failed")
        return problem(RequestRefused(500, "internal_error", "cannot answer: an error of ours; it is in the log"))


def find_model(ctx: Context, name: str) -> ModelSpec:
    found = ctx.desired.find(name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(m.name for m in found)
        raise RequestRefused(409, "model_ambiguous", f"cannot tell which model is meant: {names}", param="model")
    text = f"cannot find the model {name[:128]!r}: the manifest declares none of that name"
    raise RequestRefused(404, "model_not_found", text, param="model")


async def worker_for(ctx: Context, spec: ModelSpec) -> Any:
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


def _serving(app: Quart, ctx: Context) -> None:
    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        asked = parse_chat(await body.read_json())
        spec = find_model(ctx, asked.model)
        worker = await worker_for(ctx, spec)
        frames = worker.stream(_to_wire(ctx, asked, spec))
        first = await anext(frames)
        if isinstance(first, wire.Refused):
            raise RequestRefused(
                first.status, first.code, first.message, param=first.param, retry_after=first.retry_after
            )
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": spec.name}
        if not asked.stream:
            return await _whole(head, frames, first.prompt_tokens)
        response = Response(_sse(head, frames, asked.include_usage), content_type="text/event-stream")
        response.headers["Cache-Control"] = "no-cache"
        response.timeout = None
        return response

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
                raise RequestRefused(frame.status, frame.code, frame.message, retry_after=frame.retry_after)
            case wire.Finish():
                message = {"role": "assistant", "content": "".join(parts), "refusal": None}
                choice = {"index": 0, "message": message, "finish_reason": frame.reason, "logprobs": None}
                usage = _usage(prompt, frame.completion_tokens)
                return answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    raise RequestRefused(503, "worker_crashed", "cannot finish the answer: the worker ended", retry_after=2)


async def _sse(head: dict[str, Any], frames: AsyncIterator[Any], include_usage: bool) -> AsyncIterator[bytes]:
    """Chunks, then [DONE]; an answer that breaks off ends in an error event and no [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return event({**head, "choices": [choice]} | ({"usage": None} if include_usage else {}))

    yield chunk({"role": "assistant", "content": ""})
    async for frame in pinged(frames):
        match frame:
            case None:
                yield b": ping\n\n"
            case wire.Tokens(items):
                if text := "".join(t for _, t, _ in items):
                    yield chunk({"content": text})
            case wire.Refused():
                yield event({"error": error_body(RequestRefused(frame.status, frame.code, frame.message))})
                return
            case wire.Finish():
                yield chunk({}, frame.reason)
                if include_usage:
                    yield event({**head, "choices": [], "usage": _usage(frame.prompt_tokens, frame.completion_tokens)})
                yield b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


async def pinged(frames: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The frames, and None whenever none came for a while."""
    send, receive = anyio.create_memory_object_stream[Any](16)

    async def pump() -> None:
        async with send:
            async for frame in frames:
                await send.send(frame)

    async with anyio.create_task_group() as group:
        group.start_soon(pump)
        while True:
            frame = None
            with anyio.move_on_after(PING):
                try:
                    frame = await receive.receive()
                except anyio.EndOfStream:
                    break
            yield frame
        group.cancel_scope.cancel()


def _control(app: Quart, ctx: Context) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        good = is_ready(ctx.loop) and not ctx.draining()
        return answer({"ready": good}, 200 if good else 503)

    @app.get("/v1/status")
    async def status() -> Response:
        return answer(ctx.status.whole)

    @app.get("/v1/events")
    async def events() -> Response:
        response = Response(_events(ctx), content_type="text/event-stream")
        response.timeout = None
        return response

    @app.post("/v1/plan")
    async def plan_text() -> Response:
        text = await request.get_data()
        assert isinstance(text, bytes)  # as_text is False
        return answer(await anyio.to_thread.run_sync(describe_plan, ctx, text))

    @app.post("/v1/reload")
    async def reload() -> Response:
        seen = await ctx.intake.take()
        return _seen(seen)

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
            yield b": ping\n\n"
        for one in ctx.status.transitions if changed else ():
            yield event(one)
