"""Chat and the list of models. What a request means is in `chat`, what an answer looks like in `completion`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import PING_EVENT, answer, error_body, event, sse
from offgridd.api.cards import model_card, model_cards
from offgridd.api.chat import MAX_SEED, ChatRequest, parse_chat
from offgridd.api.completion import chunks, whole
from offgridd.api.context import Context
from offgridd.api.passing import frames_of, once_admitted
from offgridd.api.waiting import (
    LOADING_WAIT,
    STREAM_WAIT,
    asked_for,
    check_purpose,
    find_dressed,
    on_its_way,
    worker_for,
)
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import RequestRefused
from offgridd.core.naming import shown_name
from offgridd.engine import wire


def add_inference(app: Quart, ctx: Context) -> None:
    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        asked = parse_chat(await body.read_json())
        spec, adapters = find_dressed(ctx, asked.model)
        check_purpose(ctx, spec, "text")
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()),
                "model": "+".join((shown_name(spec), *adapters))}  # fmt: skip
        chats = _to_wire(ctx, asked, spec, request.remote_addr or "local", adapters)
        ids = [chat.id for chat in chats]
        if asked.stream and asked_for(ctx, spec) is None:
            return sse(_when_loaded(ctx, spec, head, chats, asked.include_usage))
        most = STREAM_WAIT if asked.stream else LOADING_WAIT
        frames = await once_admitted(frames_of(ctx, spec, await worker_for(ctx, spec), chats, most), chats)
        if asked.stream:
            return sse(chunks(head, ids, frames, asked.include_usage))  # which closes them
        async with aclosing(frames):
            return answer(await whole(head, ids, frames))

    @app.get("/v1/models")
    async def models() -> Response:
        kept = ctx.keeper.kept if ctx.desired.server.undeclared == "serve" else {}
        known = [*ctx.desired.models.values(), *kept.values()]
        return answer({"object": "list", "data": [card for m in known for card in model_cards(ctx, m)]})

    @app.get("/v1/models/<path:name>")
    async def model(name: str) -> Response:
        return answer(model_card(ctx, *find_dressed(ctx, name)))


async def _when_loaded(
    ctx: Context, spec: ModelSpec, head: dict[str, Any], chats: Sequence[wire.Chat], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The stream of a model that is loading: pings until it is there; a later refusal is an event and no [DONE]."""
    yield PING_EVENT
    try:
        async with aclosing(on_its_way(ctx, spec, STREAM_WAIT)) as coming:
            async for worker in coming:
                if worker is None:
                    yield PING_EVENT
                    continue
                frames = frames_of(ctx, spec, worker, chats, STREAM_WAIT)
                async with aclosing(chunks(head, [chat.id for chat in chats], frames, include_usage)) as made:
                    async for chunk in made:
                        yield chunk
    except RequestRefused as error:
        yield event({"error": error_body(error)})


def _to_wire(
    ctx: Context, asked: ChatRequest, spec: ModelSpec, client: str, adapters: tuple[str, ...]
) -> list[wire.Chat]:
    """One for each choice; those after the first draw with seeds of their own."""
    stop = asked.stop if asked.stop is not None else spec.sampling.stop
    limit = asked.max_tokens if asked.max_tokens is not None else spec.sampling.max_tokens
    sampling = asked.sampling(spec.sampling)
    if spec.load.deterministic and sampling.seed is None:
        sampling = msgspec.structs.replace(sampling, seed=0)  # else the same request would not give the same bits
    seeds = [None if sampling.seed is None else (sampling.seed + i) % (MAX_SEED + 1) for i in range(asked.choices)]
    return [
        wire.Chat(
            ctx.workers.next_request(), client, asked.messages, msgspec.structs.replace(sampling, seed=seed),
            limit, stop, asked.logprobs, asked.constraint, clip=asked.max_tokens is None,
            tools=asked.tools.tools, choice=asked.tools.choice, only=asked.tools.only, parallel=asked.tools.parallel,
            template_args=asked.template_args, adapters=adapters,
        )
        for seed in seeds
    ]  # fmt: skip
