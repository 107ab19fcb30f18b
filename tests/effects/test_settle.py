"""When a manifest that is being written counts as whole. Real files; the loop's time is fake."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support.edits import config_map, relink

from offgridd.effects.settle import PATIENCE, STILL, Settler

WHOLE = "first half, second half"
pytestmark = pytest.mark.looptime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text("old")
    return path


def content(path: Path) -> str:
    return path.read_text()


def elapsed() -> float:
    return asyncio.get_running_loop().time()


def in_place(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def as_a_new_file(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == "old":
        path.rename(path.with_name("m.yaml~"))
    in_place(path, text)


@pytest.mark.parametrize("name", ["m.yaml", "conf.d/a.yaml", "offgridd.lock"])
@pytest.mark.parametrize("write", [in_place, as_a_new_file])
async def test_what_is_written_in_pieces_is_waited_for(
    write: Callable[[Path, str], None], name: str, path: Path
) -> None:
    settler, written = Settler(path), path.parent / name

    async def in_pieces() -> None:
        for count in (5, 10, 15, len(WHOLE)):
            write(written, WHOLE[:count])
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as group:
        group.start_soon(in_pieces)
        await anyio.sleep(0.01)
        await settler.settle()
        assert content(written) == WHOLE


async def test_what_was_written_in_place_is_waited_for_once(path: Path) -> None:
    settler = Settler(path)
    in_place(path, "new and longer")
    await settler.settle()
    assert elapsed() == pytest.approx(STILL)
    await settler.settle()
    assert elapsed() == pytest.approx(STILL), "nothing has changed since"


@pytest.mark.parametrize("name", ["m.yaml", "conf.d/a.yaml", "offgridd.lock"])
async def test_what_was_renamed_into_place_is_whole_at_once(name: str, path: Path) -> None:
    in_place(path.parent / name, "old")
    settler, new = Settler(path), path.with_name("new")
    new.write_text(WHOLE)
    os.utime(new, ns=(1, 1))  # written before it was renamed, however coarse the file system's clock is
    new.rename(path.parent / name)
    await settler.settle()
    assert elapsed() == 0


async def test_what_was_seen_to_be_renamed_is_whole_at_once_whatever_its_times(path: Path) -> None:
    settler, new = Settler(path), path.with_name("new")
    new.write_text(WHOLE)
    new.rename(path)
    await settler.settle(moved=True)
    assert elapsed() == 0


async def test_a_swapped_link_is_whole_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    config_map(path, "0")
    settler = Settler(path)
    config_map(path, "1")
    await settler.settle()
    for name in ("one", "two"):
        in_place(tmp_path / name / "a.yaml", name)
    relink(tmp_path / "conf.d", "one")
    settler = Settler(path)
    relink(tmp_path / "conf.d", "two")
    await settler.settle()
    assert elapsed() == 0


async def test_there_is_nothing_to_wait_for_where_there_is_no_file(path: Path) -> None:
    settler = Settler(path)
    os.unlink(path)
    await settler.settle()
    assert elapsed() == 0


async def test_a_file_that_never_stands_still_is_read_all_the_same(path: Path) -> None:
    settler = Settler(path)

    async def write() -> None:
        while True:
            in_place(path, content(path) + "x")
            await anyio.sleep(STILL / 2)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.sleep(0.01)
        await settler.settle()
        group.cancel_scope.cancel()
    assert elapsed() == pytest.approx(PATIENCE, abs=2 * STILL)


async def test_what_is_gone_may_be_on_its_way_back(path: Path) -> None:
    lock = path.with_name("offgridd.lock")
    lock.write_text("old")
    settler = Settler(path)
    lock.unlink()
    async with anyio.create_task_group() as group:
        group.start_soon(settler.settle)
        await anyio.sleep(STILL / 2)
        lock.write_text(WHOLE)
    assert elapsed() == pytest.approx(2 * STILL), "and then it is waited for"
