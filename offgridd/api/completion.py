"""A worker's frames -> a chat completion as OpenAI has it, whole or in chunks. `ids`: the requests of its choices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from offgridd.api.answers import PING_EVENT, error_body, event
from offgridd.core.errors import RequestRefused
from offgridd.engine import wire

Json = dict[str, Any]
_TEXT = "\x00text\x00"  # occurs nowhere else in a chunk


def refusal(frame: wire.Refused) -> RequestRefused:
    """What a worker refused, as the client sees it."""
    return RequestRefused(frame.status, frame.code, frame.message, param=frame.param, retry_after=frame.retry_after)


def usage_of(ends: Sequence[wire.Finish]) -> Json:
    """The prompt counts once, however many choices there are."""
    prompt, completion = ends[0].prompt_tokens, sum(end.completion_tokens for end in ends)
    cached = {"cached_tokens": ends[0].cached_tokens}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": cached}  # fmt: skip


def _timings(ends: Sequence[wire.Finish]) -> Json | None:
    """Milliseconds of the first choice, as its worker saw them. Not OpenAI's; its clients pass over it."""
    first = min(ends, key=lambda end: end.id)
    seen = first.timings
    if seen is None:
        return None
    names = ("queue", "prefill", "generation", "longest_gap")
    return {f"{name}_ms": round(getattr(seen, name) * 1e3, 3) for name in names}


async def whole(head: Json, ids: Sequence[int], frames: AsyncIterator[Any]) -> Json:
    """Raises RequestRefused."""
    texts: dict[int, list[str]] = {i: [] for i in ids}
    logprobs: dict[int, list[Json]] = {i: [] for i in ids}
    ends: dict[int, wire.Finish] = {}
    async for frame in frames:
        match frame:
            case wire.Tokens(items):
                for item in items:
                    texts[item.request].append(item.text)
                    logprobs[item.request] += [_logprob(item.logprob)] if item.logprob else []
            case wire.Refused():
                raise refusal(frame)
            case wire.Finish(request):
                ends[request] = frame
    choices = [_choice(n, "".join(texts[i]), ends[i].reason, logprobs[i]) for n, i in enumerate(ids)]
    finished = [ends[i] for i in ids]
    answer = {"choices": choices, "usage": usage_of(finished), "timings": _timings(finished)}
    return {**head, "object": "chat.completion", **answer}


async def chunks(
    head: Json, ids: Sequence[int], frames: AsyncGenerator[Any, None], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events and [DONE]; an answer that breaks off ends in an error event and no [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}
    ends: list[wire.Finish] = []

    def chunk(request: int, delta: Json, reason: str | None = None, logprob: Json | None = None) -> bytes:
        choice = {"index": ids.index(request), "delta": delta, "finish_reason": reason, "logprobs": logprob}
        return event({**head, "choices": [choice]} | ({"usage": None} if include_usage else {}))

    # Nearly all chunks differ in their text only, and this runs for each token.
    around = {request: chunk(request, {"content": _TEXT}).split(msgspec.json.encode(_TEXT)) for request in ids}

    async with aclosing(frames):
        async for frame in frames:
            match frame:
                case None:
                    yield PING_EVENT
                case wire.Admitted(request):
                    yield chunk(request, {"role": "assistant", "content": ""})
                case wire.Tokens(items):
                    for item in items:
                        if item.logprob:
                            logprob = {"content": [_logprob(item.logprob)], "refusal": None}
                            yield chunk(item.request, {"content": item.text}, None, logprob)
                        elif item.text:
                            yield msgspec.json.encode(item.text).join(around[item.request])
                case wire.Refused():
                    yield event({"error": error_body(refusal(frame))})
                    return
                case wire.Finish(request):
                    ends.append(frame)
                    yield chunk(request, {}, frame.reason)
    if include_usage:
        yield event(
            {**head, "choices": [], "usage": usage_of(sorted(ends, key=lambda end: end.id)), "timings": _timings(ends)}
        )
    yield b"data: [DONE]\n\n"


def _choice(index: int, text: str, reason: str, logprobs: list[Json]) -> Json:
    message = {"role": "assistant", "content": text, "refusal": None}
    found = {"content": logprobs, "refusal": None} if logprobs else None
    return {"index": index, "message": message, "finish_reason": reason, "logprobs": found}


def _logprob(found: wire.TokenLogprob) -> Json:
    top = [_token(piece, value) for piece, value in found.top]
    return {**_token(found.piece, found.logprob), "top_logprobs": top}


def _token(piece: bytes, logprob: float) -> Json:
    return {"token": piece.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(piece)}
