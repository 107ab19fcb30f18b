"""Work that may wait for a slow hub: a few at once, some more wait, and the rest is told to come again."""

from __future__ import annotations

import anyio

from offgridd.core.errors import RequestRefused

AT_ONCE, WAITING = 8, 32


def check_crowd(limiter: anyio.CapacityLimiter, doing: str) -> None:
    """Before one waits at `limiter`. Raises RequestRefused (503)."""
    if limiter.statistics().tasks_waiting >= WAITING:
        raise RequestRefused(503, "busy", f"cannot {doing}: too many do already; try again", retry_after=5)
