"""Counts the requests of an app, for a daemon that ends after its last client."""

from __future__ import annotations

from typing import Any

import anyio
from quart import Quart

FIRST = 60.0  # seconds in which the first client must come


def until_unused(app: Quart, linger: float) -> Any:
    """An awaitable that ends when no request was open for `linger` seconds. Call it before the app serves."""
    inner, count, changed = app.asgi_app, 0, anyio.Event()

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count, changed
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        count += 1
        changed.set()
        try:
            await inner(scope, receive, send)
        finally:
            count -= 1
            changed.set()

    async def unused() -> None:
        nonlocal changed
        patience, over = FIRST, False
        while not over:
            changed = anyio.Event()
            with anyio.move_on_after(patience if count == 0 else None) as scope:
                await changed.wait()
            over, patience = scope.cancelled_caught, linger

    app.asgi_app = counted  # type: ignore[method-assign]
    return unused()
