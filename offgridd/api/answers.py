"""The shapes of answers: JSON, errors as OpenAI has them, server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from quart import Response

from offgridd.core.errors import RequestRefused

PING = 15.0  # seconds between comments on a silent stream
PING_EVENT = b": ping\n\n"


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return raw(msgspec.json.encode(value), status, headers)


def raw(encoded: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that is encoded already."""
    return Response(encoded, status, headers, content_type="application/json")


def problem(error: RequestRefused) -> Response:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return answer({"error": error_body(error)}, error.status, headers)


def error_body(error: RequestRefused) -> dict[str, Any]:
    kind = "invalid_request_error" if error.status < 500 and error.status != 429 else "server_error"
    return {"message": error.message[:1000], "type": kind, "param": error.param, "code": error.code}


def event(value: Any) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def sse(chunks: AsyncIterator[bytes]) -> Response:
    """A response of server-sent events; nothing bounds its length."""
    response = Response(chunks, content_type="text/event-stream", headers={"Cache-Control": "no-cache"})
    response.timeout = None
    return response
