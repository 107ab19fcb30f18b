"""Bytes of a request -> JSON, strictly: UTF-8, no NaN, no duplicate keys, bounded size and depth."""

from __future__ import annotations

import json
import re
from array import array
from itertools import accumulate
from typing import Any, NoReturn

import anyio
import anyio.to_thread
from quart import request

from offgridd.core.errors import RequestRefused

LIMIT = 4 << 20  # bytes
PATIENCE = 60.0  # seconds for a body
MAX_DEPTH = 64
_IN_THREAD = 64 << 10  # bytes from which parsing leaves the event loop
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one deeper, one less deep
_NO_STEPS = bytes(set(range(256)) - set(b"[{]}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # UTF-8 has none: only an escape can bring one


def _bad(text: str) -> RequestRefused:
    return RequestRefused(400, "invalid_json", f"cannot read the request: {text}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number here")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:64]!r} stands there twice")
        found[key] = value
    return found


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def depth(data: bytes) -> int:
    """How deep the JSON in `data` is nested, as far as it is JSON. A few passes, none of them in Python's own loop."""
    unescaped = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")  # then each quote begins or ends a string
    outside = b"".join(unescaped.split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NO_STEPS))
    return max(accumulate(steps), default=0)


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises RequestRefused."""
    if depth(data) > MAX_DEPTH:
        raise _bad(f"it is nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_pairs, parse_float=_number)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # fails if it is a lone one
    except UnicodeError:
        raise _bad("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)[:200]) from None
    if not isinstance(value, dict):
        raise _bad("it is not a JSON object")
    return value


async def read_body() -> bytes:
    """The present request's body. Raises RequestRefused (408, 413).

    The time limit is ours: the framework's own loses the cancellation of a client that has left, and then its answer
    is made to the end for nobody.
    """
    with anyio.move_on_after(PATIENCE):
        data = await request.get_data(cache=False)
        assert isinstance(data, bytes)  # as_text is False
        return data
    raise RequestRefused(408, "timeout", f"cannot read the request: it took longer than {PATIENCE:g} s")


async def read_json() -> dict[str, Any]:
    """The present request's body. Raises RequestRefused (400, 413, 415)."""
    kind = (request.content_type or "application/json").split(";")
    if kind[0].strip().lower() not in ("application/json", "text/json"):
        raise RequestRefused(415, "unsupported_media_type", "cannot read the request: send application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestRefused(415, "unsupported_media_type", "cannot read the request: send it without Content-Encoding")
    data = await read_body()
    return parse(data) if len(data) < _IN_THREAD else await anyio.to_thread.run_sync(parse, data)
