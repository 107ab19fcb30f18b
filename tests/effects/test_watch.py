"""Real folders, real inotify: each edit that a watcher may miss ends in a hint, and who reads then sees it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support.edits import (
    Edit,
    config_map,
    new_folder,
    new_grandparent,
    put,
    recreate,
    release,
    relink,
    rename_over,
    repoint,
    target,
    vim,
)
from support.limits import no_descriptors
from support.reading import NEVER, SOON, reading
from watchfiles._rust_notify import RustNotify

from offgridd.effects.watch import concerns, hints, watch_set


@pytest.fixture
def path(tmp_path: Path) -> Path:
    above = tmp_path / "above"
    above.mkdir()
    return above / "folder" / "m.yaml"


EDITS: dict[str, list[Edit]] = {
    "in place": [put, put, put],
    "rename": [put, rename_over, rename_over, rename_over],
    "any edit after a rename": [put, rename_over, put, put, vim, recreate],
    "vim": [put, vim, vim],
    "deleted and recreated": [put, recreate, recreate],
    "ConfigMap": [config_map, config_map, config_map, config_map],
    "link, target in place": [target(put), target(put), target(put)],
    "link, target renamed over": [target(put), target(rename_over), target(rename_over), target(put)],
    "link pointed elsewhere": [put, repoint, repoint, repoint],
    "folder is a link": [release, release, release, put, rename_over],
    "folder anew": [put, new_folder, new_folder, put],
    "folder above anew": [put, new_grandparent, new_grandparent, put],
}


@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS)
async def test_a_reader_sees_each_edit(edits: list[Edit], path: Path) -> None:
    edits[0](path, "0")
    async with reading(path) as reader:
        for number, edit in enumerate(edits[1:], 1):
            edit(path, str(number))
            await reader.sees(str(number))
    assert set(reader.reports) == {""}


@pytest.mark.parametrize("there", [0, 1, 2], ids=["no folders", "one folder", "folder without the file"])
async def test_what_was_absent_is_seen_when_it_comes_step_by_step(there: int, tmp_path: Path) -> None:
    path, folders = tmp_path / "a" / "b" / "m.yaml", [tmp_path / "a", tmp_path / "a" / "b"]
    for folder in folders[:there]:
        folder.mkdir()
    async with reading(path) as reader:
        assert reader.text == "missing"
        for folder in folders[there:]:
            before = reader.hints
            folder.mkdir()
            await reader.until(lambda before=before: reader.hints > before)  # type: ignore[misc]
        put(path, "1")
        await reader.sees("1")
        put(path, "2")
        await reader.sees("2")


GONE: dict[str, tuple[Edit, Callable[[Path], None], Edit]] = {
    "file": (put, Path.unlink, put),
    "folder": (put, lambda path: shutil.rmtree(path.parent), put),
    "folder above": (put, lambda path: shutil.rmtree(path.parent.parent), put),
    "target": (target(put), lambda path: path.resolve().unlink(), target(put)),
    "target's folder": (target(put), lambda path: shutil.rmtree(path.resolve().parent), target(put)),
    "link of the folder": (release, lambda path: path.parent.unlink(), release),
    "link, a folder in its place": (release, lambda path: path.parent.unlink(), put),
    "link of the data": (config_map, lambda path: (path.parent / "..data").unlink(), config_map),
}


@pytest.mark.parametrize(("make", "remove", "restore"), GONE.values(), ids=GONE)
async def test_what_was_seen_to_go_is_seen_to_come_back(
    make: Edit, remove: Callable[[Path], None], restore: Edit, path: Path
) -> None:
    make(path, "0")
    async with reading(path) as reader:
        remove(path)
        await reader.sees("missing")
        restore(path, "1")
        await reader.sees("1")


async def test_fragments_are_seen_to_come_change_and_go(path: Path) -> None:
    put(path, "0")
    conf = path.parent / "conf.d"
    async with reading(path) as reader:
        put(conf / "a.yaml", "1")
        await reader.sees("0+1")
        put(conf / "a.yaml", "2")
        await reader.sees("0+2")
        rename_over(conf / "b.yaml", "3")
        await reader.sees("0+2+3")
        shutil.rmtree(conf)
        await reader.sees("0")
        put(conf / "a.yaml", "4")
        await reader.sees("0+4")


async def test_a_lock_is_seen_to_come_change_and_go(path: Path) -> None:
    put(path, "0")
    lock = path.parent / "offgridd.lock"
    async with reading(path) as reader:
        put(lock, "1")
        await reader.sees("0+1")
        put(lock, "2")
        await reader.sees("0+2")
        rename_over(lock, "3")
        await reader.sees("0+3")
        put(path.parent.parent / "elsewhere", "4")
        lock.unlink()
        lock.symlink_to("../elsewhere")
        await reader.sees("0+4")
        rename_over(path.parent.parent / "elsewhere", "5")
        await reader.sees("0+5")
        lock.unlink()
        await reader.sees("0")


async def test_a_swapped_folder_of_fragments_is_seen(path: Path) -> None:
    put(path, "0")
    put(path.parent.parent / "one" / "a.yaml", "1")
    put(path.parent.parent / "two" / "a.yaml", "2")
    relink(path.parent / "conf.d", "../one")
    async with reading(path) as reader:
        relink(path.parent / "conf.d", "../two")
        await reader.sees("0+2")
        put(path.parent.parent / "two" / "a.yaml", "3")
        await reader.sees("0+3")


async def test_a_relative_path_is_watched_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path, "0")
    monkeypatch.chdir(path.parent.parent)
    async with reading(Path("folder/m.yaml")) as reader:
        rename_over(path, "1")
        await reader.sees("1")
        put(path.parent / "conf.d" / "a.yaml", "2")
        await reader.sees("1+2")


async def test_what_happens_between_a_reading_and_the_next_wait_is_not_lost(path: Path) -> None:
    put(path, "0")
    async with aclosing(hints(path, lambda _: None, NEVER)) as told:
        await anext(told)
        rename_over(path, "1")  # nobody waits at this moment
        with anyio.fail_after(5):
            await anext(told)


async def test_other_files_in_the_folder_give_no_hint(path: Path) -> None:
    put(path, "0")
    other = RustNotify([str(path.parent)], False, False, 0, False, False)
    async with reading(path) as reader:
        before = reader.hints
        for name in ("offgridd.log", "m.yaml.swp", "4913"):
            put(path.parent / name, "1")
            assert await anyio.to_thread.run_sync(other.watch, 50, 20, 5000, None) != "timeout"
        assert reader.hints == before


def test_only_what_lies_on_the_way_concerns_us(path: Path) -> None:
    config_map(path, "0")
    folder = path.parent
    concerned = concerns(path)
    assert all(concerned(str(p)) for p in (path, folder, folder / "..data", folder / "..0" / path.name, folder.parent))
    assert all(concerned(str(p)) for p in (folder / "conf.d", folder / "conf.d" / "a.yaml"))
    assert not any(concerned(str(p)) for p in (folder / "log", folder.parent / "m", folder / "conf.data"))


def test_links_in_a_ring_are_no_endless_way(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("other")
    (path.parent / "other").symlink_to(path.name)
    assert [*watch_set(path)] == [str(path.parent), str(path.parent.parent)]


async def test_cancelled_it_leaves_at_once_and_no_thread_stays(path: Path) -> None:
    put(path, "0")
    with anyio.fail_after(2):
        async with reading(path):
            pass
        while anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            await anyio.lowlevel.checkpoint()


async def test_where_watching_fails_the_tick_goes_on_and_it_recovers(path: Path) -> None:
    put(path, "0")
    async with AsyncExitStack() as stack:
        with no_descriptors():
            reader = await stack.enter_async_context(reading(path, SOON))
            await reader.until(lambda: reader.hints > 3)
            failed = [*reader.reports]
        await reader.until(lambda: reader.reports[-1] == "")
        await reader.sees("0")
    assert all("Too many open files" in r and "looking every" in r for r in failed)


@contextmanager
def shut(folder: Path) -> Iterator[None]:
    """Nobody may enter it; where we are root, we are somebody else meanwhile."""
    me = os.geteuid()
    folder.chmod(0)
    os.seteuid(me or 65534)
    try:
        yield
    finally:
        os.seteuid(me)
        folder.chmod(0o700)


async def test_a_folder_that_may_not_be_entered_is_reported_until_it_may(path: Path) -> None:
    put(path, "0")
    async with AsyncExitStack() as stack:
        with shut(path.parent):
            reader = await stack.enter_async_context(reading(path, SOON))
            assert "Permission denied" in reader.reports[0]
            assert reader.text == "missing"
        await reader.sees("0")
        assert reader.reports[-1] == ""


@pytest.mark.parametrize(("edit", "moved"), [(rename_over, True), (put, False), (vim, False), (recreate, False)])
async def test_a_rename_is_told_from_a_file_that_is_written_anew(edit: Edit, moved: bool, path: Path) -> None:
    put(path, "0")
    async with aclosing(hints(path, lambda _: None, NEVER)) as told:
        assert await anext(told) is False
        edit(path, "1")
        assert await anext(told) is moved
