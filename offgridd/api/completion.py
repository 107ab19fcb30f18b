"""A worker's frames -> a chat completion as OpenAI has it, whole or in chunks. `ids`: the requests of its choices."""

from __future__ import annotations

import uuid
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
    said = {i: _Said() for i in ids}
    ends: dict[int, wire.Finish] = {}
    async for frame in frames:
        match frame:
            case wire.Tokens(items):
                for item in items:
                    said[item.request].add(item)
            case wire.Refused():
                raise refusal(frame)
            case wire.Finish(request):
                ends[request] = frame
    choices = [said[i].choice(n, ends[i].reason) for n, i in enumerate(ids)]
    finished = [ends[i] for i in ids]
    answer = {"choices": choices, "usage": usage_of(finished), "timings": _timings(finished)}
    return {**head, "object": "chat.completion", **answer}


class _Said:
    """One choice of an answer."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[Json] = []
        self._calls: list[wire.CallPart] = []

    def add(self, item: wire.Item) -> None:
        self._texts.append(item.text)
        self._reasoning.append(item.reasoning)
        self._logprobs += [_logprob(item.logprob)] if item.logprob else []
        self._calls += item.calls

    def choice(self, index: int, reason: str) -> Json:
        text, reasoning = "".join(self._texts), "".join(self._reasoning)
        message: Json = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            message["reasoning_content"] = reasoning
        if self._calls:
            message["content"] = text or None
            message["tool_calls"] = [_call(name, arguments) for name, arguments in wire.joined(self._calls)]
        found = {"content": self._logprobs, "refusal": None} if self._logprobs else None
        reason = _reason(reason, called=bool(self._calls))
        return {"index": index, "message": message, "finish_reason": reason, "logprobs": found}


def _call(name: str, arguments: str) -> Json:
    """Nine letters and digits: some templates take ids of that form alone."""
    return {"id": uuid.uuid4().hex[:9], "type": "function", "function": {"name": name, "arguments": arguments}}


def _reason(reason: str, *, called: bool) -> str:
    return "tool_calls" if called and reason == "stop" else reason


def _part(part: wire.CallPart) -> Json:
    """A piece of a call, as a change of a message."""
    whole = _call(part.name, part.arguments) if part.name else {"function": {"arguments": part.arguments}}
    return {"index": part.index, **whole}


async def chunks(
    head: Json, ids: Sequence[int], frames: AsyncGenerator[Any, None], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """Server-sent events and [DONE]; an answer that breaks off ends in an error event and no [DONE]."""
    head = {**head, "object": "chat.completion.chunk"}
    ends, called = list[wire.Finish](), set[int]()

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
                        if item.reasoning:
                            yield chunk(item.request, {"reasoning_content": item.reasoning})
                        if item.logprob:
                            logprob = {"content": [_logprob(item.logprob)], "refusal": None}
                            yield chunk(item.request, {"content": item.text}, None, logprob)
                        elif item.text:
                            yield msgspec.json.encode(item.text).join(around[item.request])
                        for part in item.calls:
                            called.add(item.request)
                            yield chunk(item.request, {"tool_calls": [_part(part)]})
                case wire.Refused():
                    yield event({"error": error_body(refusal(frame))})
                    return
                case wire.Finish(request):
                    ends.append(frame)
                    yield chunk(request, {}, _reason(frame.reason, called=request in called))
    if include_usage:
        yield event(
            {**head, "choices": [], "usage": usage_of(sorted(ends, key=lambda end: end.id)), "timings": _timings(ends)}
        )
    yield b"data: [DONE]\n\n"


def _logprob(found: wire.TokenLogprob) -> Json:
    top = [_token(piece, value) for piece, value in found.top]
    return {**_token(found.piece, found.logprob), "top_logprobs": top}


def _token(piece: bytes, logprob: float) -> Json:
    return {"token": piece.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(piece)}
