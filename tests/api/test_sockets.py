"""The admin socket: whose it is, who may open it, and that no living one is taken away."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from offgridd.api.sockets import BindError, bind_admin


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o777


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    tmp_path.chmod(0o1777)
    return tmp_path


def test_a_socket_at_which_a_daemon_answers_is_refused_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind_admin(path, None):
        with pytest.raises(BindError, match="another daemon answers"):
            bind_admin(path, None)
        assert connects(path)


def test_a_socket_whose_daemon_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bind_admin(path, None).close()
    assert path.is_socket()
    with bind_admin(path, None):
        assert connects(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("mine")
    with pytest.raises(BindError, match="no socket"):
        bind_admin(path, None)
    assert path.read_text() == "mine"


def test_at_the_end_only_the_own_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind_admin(path, None) as first:
        pass
    with bind_admin(path, None) as second:
        first.remove()
        assert connects(path)
    second.remove()
    assert not path.exists()
    second.remove()


@pytest.mark.parametrize("wanted", [0o600, 0o660])
def test_its_mode_is_the_one_asked_for_and_its_folder_in_tmp_for_us_alone(shared: Path, wanted: int) -> None:
    path = shared / "offgridd-0" / "offgridd" / "admin.sock"
    before = os.umask(0)
    try:
        bind_admin(path, None, wanted).close()
    finally:
        os.umask(before)
    assert mode(path) == wanted
    assert (mode(path.parent), mode(path.parent.parent)) == (0o700, 0o700)


def test_a_folder_in_tmp_that_somebody_else_made_is_refused(shared: Path) -> None:
    ours, theirs = shared / "ours", shared / "theirs"
    theirs.mkdir(0o700)
    ours.symlink_to(theirs)
    with pytest.raises(BindError, match="is a link"):
        bind_admin(ours / "offgridd" / "admin.sock", None)
    theirs.chmod(0o770)
    with pytest.raises(BindError, match="others may write"):
        bind_admin(theirs / "offgridd" / "admin.sock", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_in_tmp_of_another_user_is_refused(shared: Path) -> None:
    theirs = shared / "theirs"
    (theirs / "offgridd").mkdir(0o700, parents=True)
    os.chown(theirs, 12345, 12345)
    theirs.chmod(0o700)
    with pytest.raises(BindError, match="another user"):
        bind_admin(theirs / "offgridd" / "admin.sock", None)
