"""Asks for a chat completion over a connection of its own and notes when each piece of it came.

A piece costs one call that appends to a list; everything is read out of the bytes afterwards. Both sides get the same
bytes, but for the model's name. The tokens that end an answer are forbidden, so that all answers have their length.
"""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

ENDS = (0, 2, 4)  # <|endoftext|>, <|im_end|> and <file_sep> of SmolLM2: all that its vocabulary calls an end
NO_END = {str(token): -100 for token in ENDS}
Messages = list[dict[str, str]]


class Side(NamedTuple):
    name: str
    port: int
    model: str = "smol"


class Answer(NamedTuple):
    """`asked` and `times` (of each piece of text) in seconds; what the server says of tokens is 0 where it was cut."""

    asked: float
    times: list[float]
    text: str
    tokens: int
    prompt: int
    cached: int
    reason: str
    logprobs: list[Any]

    @property
    def first(self) -> float:
        """Seconds to the first text."""
        return self.times[0] - self.asked

    @property
    def last(self) -> float:
        return self.times[-1] - self.asked

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in pairwise(self.times)]

    @property
    def rate(self) -> float:
        """Tokens a second between the first and the last."""
        return (self.tokens - 1) / (self.times[-1] - self.times[0])


class Call(asyncio.Protocol):
    """One request. What came so far can be read at any time; `close` cuts it off, as a client that leaves does."""

    def __init__(self, side: Side, messages: str | Messages, tokens: int, **more: object) -> None:
        self._side = side
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        body = {"model": side.model, "messages": said, "max_tokens": tokens, "temperature": 0, "stream": True,
                "stream_options": {"include_usage": True}, "logit_bias": NO_END, **more}  # fmt: skip
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        self._sent = (head + "Content-Type: application/json\r\nConnection: close\r\n\r\n").encode() + data
        self._came: list[tuple[float, bytes]] = []
        self._over = asyncio.get_running_loop().create_future()
        self.asked = 0.0

    async def run(self) -> Answer:
        """To the end, or to `close`."""
        self.asked = time.perf_counter()
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._side.port)
        try:
            await self._over
        finally:
            transport.abort()
        return self.answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        self._came.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def answer(self) -> Answer:
        """What came so far. Raises RuntimeError when it is no answer."""
        raw = b"".join(data for _, data in self._came)
        if self._came and b" 200 " not in raw[:16]:
            raise RuntimeError(f"{self._side.name} answered {raw[:2000]!r}")
        ends = list(accumulate(len(data) for _, data in self._came))
        times, texts, logprobs = list[float](), list[str](), list[Any]()
        usage, reason, at = dict[str, Any](), "", 0
        while (start := raw.find(b"data: {", at)) >= 0 and (at := raw.find(b"\n", start)) >= 0:
            event = json.loads(raw[start + 6 : at])
            if "error" in event:
                raise RuntimeError(f"{self._side.name} broke off: {event}")
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                reason = choice.get("finish_reason") or reason
                if text := choice["delta"].get("content"):
                    texts.append(text)
                    times.append(self._came[bisect_left(ends, at + 1)][0])
                if found := choice.get("logprobs"):
                    logprobs += found["content"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return Answer(self.asked, times, "".join(texts), usage.get("completion_tokens", 0),
                      usage.get("prompt_tokens", 0), cached, reason, logprobs)  # fmt: skip


async def ask(
    side: Side, messages: str | Messages, tokens: int, seconds: float | None = None, **more: object
) -> Answer:
    """The answer, whole; or what came of it in so many seconds. Raises RuntimeError when it has not its length."""
    call = Call(side, messages, tokens, **more)
    timer = asyncio.get_running_loop().call_later(seconds, call.close) if seconds is not None else None
    found = await call.run()
    if timer is not None:
        timer.cancel()
    if not found.reason and seconds is not None:
        return found
    if "response_format" not in more and "stop" not in more and found.tokens != tokens:
        raise RuntimeError(f"{side.name} gave {found.tokens} tokens in place of {tokens}: {found.reason}")
    return found


async def ask_all(side: Side, texts: Sequence[str], tokens: int, seconds: float | None = None) -> list[Answer]:
    """All at once."""
    return list(await asyncio.gather(*(ask(side, text, tokens, seconds) for text in texts)))
