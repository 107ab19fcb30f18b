"""For all tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
# They take all cores, or say what a request takes: beside others they would slow those down, or be slowed.
ALONE = (
    "engine",
    "e2e/test_bad_files.py",
    "e2e/test_daemon.py",
    "e2e/test_hub_down.py",
    "effects/test_large.py",
    "effects/test_workers.py",
)


def pytest_configure() -> None:
    # looptime asks for the present loop before tests that have none, and asyncio would make one that nobody closes.
    asyncio.set_event_loop(None)
    settings.register_profile("here", deadline=None)  # how long an example takes says nothing on a busy machine
    settings.load_profile("here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(TESTS)
        if any(path.is_relative_to(one) for one in ALONE):
            item.add_marker("alone")
