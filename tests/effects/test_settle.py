"""When a manifest that is being written counts as whole. Real files; the loop's time is fake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from offgridd.effects.watch import PATIENCE, STILL, settle

WHOLE = "first half, second half"
pytestmark = pytest.mark.looptime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text("old")
    return path


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def content(path: Path) -> str:
    return path.read_text()


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def as_a_new_file(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == "old":
        path.rename(path.with_name("m.yaml~"))
    path.write_text(text)


@pytest.mark.parametrize("write", [in_place, as_a_new_file])
async def test_what_is_written_in_pieces_is_waited_for(write: Callable[[Path, str], None], path: Path) -> None:
    before = identity(path)

    async def in_pieces() -> None:
        for count in (5, 10, 15, len(WHOLE)):
            write(path, WHOLE[:count])
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as group:
        group.start_soon(in_pieces)
        await anyio.sleep(0.01)
        assert await settle(path, before) == identity(path)
        assert content(path) == WHOLE


async def test_what_stands_still_is_waited_for_once(path: Path) -> None:
    loop = asyncio.get_running_loop()
    assert await settle(path, identity(path)) == identity(path)
    assert loop.time() == pytest.approx(STILL)


async def test_what_was_renamed_into_place_is_whole_at_once(path: Path) -> None:
    before, new = identity(path), path.with_name("new")
    new.write_text(WHOLE)
    os.utime(new, ns=(1, 1))  # written before it was renamed, however coarse the file system's clock is
    new.rename(path)
    assert await settle(path, before) == identity(path) != before
    assert asyncio.get_running_loop().time() == 0


async def test_there_is_nothing_to_wait_for_where_there_is_no_file(path: Path) -> None:
    before = identity(path)
    os.unlink(path)
    assert await settle(path, before) is None
    assert asyncio.get_running_loop().time() == 0


async def test_a_file_that_goes_meanwhile_is_not_there(path: Path) -> None:
    asyncio.get_running_loop().call_later(STILL / 2, os.unlink, path)
    assert await settle(path, identity(path)) is None


async def test_a_file_that_never_stands_still_is_read_all_the_same(path: Path) -> None:
    async def write() -> None:
        while True:
            in_place(path, content(path) + "x")
            await anyio.sleep(STILL / 2)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await settle(path, identity(path))
        group.cancel_scope.cancel()
    assert asyncio.get_running_loop().time() == pytest.approx(PATIENCE, abs=STILL)
