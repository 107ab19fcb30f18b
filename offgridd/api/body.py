"""Bytes of a request -> JSON, strictly: UTF-8, no NaN, no duplicate keys, bounded size and depth."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import anyio.to_thread
from quart import request

from offgridd.core.errors import RequestRefused

LIMIT = 4 << 20  # bytes
MAX_DEPTH = 64
_IN_THREAD = 64 << 10  # bytes from which parsing leaves the event loop
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])', re.DOTALL)


def _bad(text: str) -> RequestRefused:
    return RequestRefused(400, "invalid_json", f"cannot read the request: {text}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number here")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(k for k, _ in pairs if sum(k == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice[:64]!r} stands there twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises RequestRefused."""
    depth = 0
    for found in _NESTING.finditer(data):
        depth += 1 if found.group(1) else -1 if found.group(2) else 0
        if depth > MAX_DEPTH:
            raise _bad(f"it is nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_pairs, parse_float=_number)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except UnicodeError:
        raise _bad("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _bad(str(error)[:200]) from None
    if not isinstance(value, dict):
        raise _bad("it is not a JSON object")
    return value


async def read_json() -> dict[str, Any]:
    """The present request's body. Raises RequestRefused (400, 413, 415)."""
    kind = (request.content_type or "application/json").split(";")
    if kind[0].strip().lower() not in ("application/json", "text/json"):
        raise RequestRefused(415, "unsupported_media_type", "cannot read the request: send application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestRefused(415, "unsupported_media_type", "cannot read the request: send it without Content-Encoding")
    data = await request.get_data(cache=False)
    assert isinstance(data, bytes)  # as_text is False
    return parse(data) if len(data) < _IN_THREAD else await anyio.to_thread.run_sync(parse, data)
