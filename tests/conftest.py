"""For all tests."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    # looptime asks for the present loop before tests that have none, and asyncio would make one that nobody closes.
    asyncio.set_event_loop(None)
