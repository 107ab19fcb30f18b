"""Folders of finished prefixes: for us alone, there as long as a worker has them, gone when nobody wanted them long."""

from __future__ import annotations

import os
import time
from pathlib import Path

import anyio
import pytest

from offgridd.effects.shelves import GRACE, Shelves


def aged(folder: Path, seconds: float) -> None:
    for one in (*folder.iterdir(), folder):
        os.utime(one, (time.time() - seconds,) * 2)


@pytest.mark.anyio
async def test_a_folder_goes_a_week_after_its_last_use_and_not_while_a_worker_has_it(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path / "prefixes")
    folders = [Path(await shelves.take(number, f"key{number}")) for number in range(3)]
    assert {folder.stat().st_mode & 0o777 for folder in (*folders, folders[0].parent)} == {0o700}
    for folder in folders:
        (folder / "a.prefix").touch()
    shelves.leave(1)
    shelves.leave(2)
    for folder in folders:
        aged(folder, 2 * GRACE)
    (folders[2] / "a.prefix").touch()
    shelves._sweep(set(shelves._taken.values()), time.time())
    assert [folder.exists() for folder in folders] == [True, False, True]


@pytest.mark.anyio
async def test_two_workers_have_one_folder_and_asking_for_it_is_a_use(tmp_path: Path) -> None:
    shelves = Shelves(tmp_path)
    folder = Path(await shelves.take(1, "key"))
    assert await shelves.take(2, "key") == str(folder)
    shelves.leave(1)
    assert set(shelves._taken.values()) == {"key"}
    shelves.leave(2)
    aged(folder, 2 * GRACE)
    await shelves.take(3, "key")
    shelves._sweep(set(), time.time())
    assert await anyio.Path(folder).exists()


@pytest.mark.anyio
async def test_where_there_can_be_none_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert await Shelves(tmp_path).take(1, "key") == ""
    assert await Shelves(tmp_path / "file").take(1, "key") == ""
