"""The manifest's bytes: which files are read, in which order, and what is refused instead of waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from offgridd.effects.source import LIMIT, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text("main")
    return path


def fragment(path: Path, name: bytes, text: str = "") -> None:
    folder = path.parent / "conf.d"
    folder.mkdir(exist_ok=True)
    (folder / os.fsdecode(name)).write_text(text)


def test_the_manifest_comes_first_then_the_fragments_in_byte_order(path: Path) -> None:
    for name in (b"b.yaml", b"a.yaml", b"B.yaml", b"\xff.yaml", "\u00e9.yaml".encode(), b"10.yaml", b"9.yaml"):
        fragment(path, name, repr(name))
    names = [os.path.basename(name) for name, _ in read(path)]
    expected = [b"10.yaml", b"9.yaml", b"B.yaml", b"a.yaml", b"b.yaml", "\u00e9.yaml".encode(), b"\xff.yaml"]
    assert names == ["m.yaml", *(name.decode("utf-8", "replace") for name in expected)], "text, to be sent anywhere"
    assert [text.decode() for _, text in read(path)] == ["main", *map(repr, expected)]


def test_the_lock_comes_last(path: Path) -> None:
    fragment(path, b"a.yaml", "more")
    (path.parent / "offgridd.lock").write_text("lock")
    assert [text for _, text in read(path)] == [b"main", b"more", b"lock"]


def test_what_is_hidden_or_of_another_kind_is_left_out(path: Path) -> None:
    for name in (b".a.yaml", b"a.yml", b"a.yaml~", b"a.yaml.swp"):
        fragment(path, name)
    assert len(read(path)) == 1


def test_a_long_file_is_cut_where_it_is_seen_to_be_too_long(path: Path) -> None:
    path.write_bytes(b"#" * (LIMIT + 5))
    assert len(read(path)[0][1]) == LIMIT


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["m.yaml", "conf.d/a.yaml", "offgridd.lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, endless, nowhere], ids=["FIFO", "folder", "device", "dangling"])
async def test_what_is_no_file_is_an_error_and_not_a_wait(name: str, make: Callable[[Path], None], path: Path) -> None:
    place = path.parent / name
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    make(place)
    with anyio.fail_after(2), pytest.raises(OSError, match=place.name):
        await anyio.to_thread.run_sync(read, path, abandon_on_cancel=True)


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, nowhere], ids=["FIFO", "file", "dangling"])
def test_fragments_that_can_not_be_listed_are_an_error_and_not_none(make: Callable[[Path], None], path: Path) -> None:
    make(path.parent / "conf.d")
    with pytest.raises(OSError, match=r"conf\.d"):
        read(path)


def test_a_missing_manifest_is_an_error_that_names_it(path: Path) -> None:
    fragment(path, b"a.yaml")
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read(path)
    assert caught.value.filename == str(path)
