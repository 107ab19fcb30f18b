"""For all tests."""

from __future__ import annotations

import asyncio

from hypothesis import settings


def pytest_configure() -> None:
    # looptime asks for the present loop before tests that have none, and asyncio would make one that nobody closes.
    asyncio.set_event_loop(None)
    settings.register_profile("here", deadline=None)  # how long an example takes says nothing on a busy machine
    settings.load_profile("here")
