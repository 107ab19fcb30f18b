"""Into the folder of parts: what is hashed is what lies there, and what fails leaves nothing behind."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offgridd.effects.files import identity_of
from offgridd.effects.staging import Changing, NoWay, Stager
from offgridd.effects.transfer.pace import Stopped

DATA = os.urandom(9 << 20)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    path.chmod(0o644)
    return path


@pytest.fixture
def opened(source: Path) -> Iterator[int]:
    fd = os.open(source, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "partial").mkdir()
    return tmp_path / "partial/adopt.part"


def stager(tell: Callable[[int], None] = lambda _: None, *, copy: bool = False) -> Stager:
    return Stager(lambda _: None, tell, copy)


def once(act: Callable[[], object]) -> Callable[[int], None]:
    """Acts at the first piece."""
    done: list[object] = []
    return lambda _: None if done else done.append(act())


def test_a_file_of_ours_is_linked_and_hashed(source: Path, opened: int, target: Path) -> None:
    seen: list[int] = []
    staged = stager(seen.append).stage(opened, target)
    assert (staged.how, staged.sha256, staged.identity) == ("hardlink", SHA, identity_of(source.stat()))
    assert source.samefile(target)
    assert seen[-1] == len(DATA)
    staged.close()
    assert not target.exists()
    assert source.exists()


def test_where_the_file_system_can_it_is_cloned(opened: int, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def clone(fd: int, request: int, of: int) -> int:
        assert request == 0x40049409
        return os.pwrite(fd, os.pread(of, len(DATA), 0), 0)  # no file system here can do it

    monkeypatch.setattr(fcntl, "ioctl", clone)
    staged = stager().stage(opened, target)
    assert (staged.how, staged.sha256, target.read_bytes()) == ("reflink", SHA, DATA)
    assert target.stat().st_nlink == 1
    staged.close()


@pytest.mark.parametrize("reason", ["others may write", "no name any more"])
def test_what_can_not_be_linked_is_copied_where_that_is_asked(
    source: Path, opened: int, target: Path, reason: str
) -> None:
    source.chmod(0o646) if reason == "others may write" else source.unlink()
    with pytest.raises(NoWay):
        stager().stage(opened, target)
    assert not target.exists()
    rooms: list[int] = []
    staged = Stager(rooms.append, lambda _: None, copy=True).stage(opened, target)
    assert (staged.how, staged.sha256, target.read_bytes(), rooms) == ("copy", SHA, DATA, [len(DATA)])
    staged.close()


def test_no_more_is_copied_than_there_was_room_for(source: Path, opened: int, target: Path) -> None:
    source.chmod(0o666)

    def grow() -> None:
        with source.open("ab") as file:
            file.write(b"more")

    staged = stager(once(grow), copy=True).stage(opened, target)
    assert (staged.identity.size, staged.sha256) == (len(DATA), SHA)
    staged.close()


def test_what_is_changed_while_it_is_read_is_refused(source: Path, opened: int, target: Path) -> None:
    def change() -> None:
        with source.open("r+b") as file:
            file.write(b"other")

    with pytest.raises(Changing):
        stager(once(change)).stage(opened, target)
    assert not target.exists()
    assert source.exists()


@pytest.mark.parametrize("copy", [True, False])
def test_it_can_be_stopped(source: Path, opened: int, target: Path, copy: bool) -> None:
    if copy:
        source.chmod(0o666)
    one = stager(copy=copy)
    one.tell = lambda _: one.stop()
    with pytest.raises(Stopped):
        one.stage(opened, target)
    assert not target.exists()


def test_what_is_in_the_way_is_not_overwritten(opened: int, target: Path, source: Path) -> None:
    target.symlink_to(source)
    with pytest.raises(FileExistsError):
        stager().stage(opened, target)
    assert source.read_bytes() == DATA
