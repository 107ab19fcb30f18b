"""Makes the sockets that are listened on: TCP addresses and the admin socket."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import stat
from pathlib import Path

from offgridd import places

BACKLOG = 4096
ONCE = ".once-"  # in the names of sockets for one connection
PATIENCE = 1.0  # seconds in which a daemon would take our connection; a queue that is full is one too


class BindError(Exception):
    """The address can not be listened on; the text says why."""

    @property
    def in_use(self) -> bool:
        return isinstance(self.__cause__, OSError) and self.__cause__.errno == errno.EADDRINUSE


class AdminSocket(socket.socket):
    """Knows which file it made, also after it was closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(socket.AF_UNIX)
        self._path, self._file = path, (0, 0)

    @property
    def path(self) -> Path:
        return self._path

    def make(self) -> None:
        """Binds it, for its owner alone."""
        before = os.umask(0o177)  # never open to others, not even between two calls
        try:
            self.bind(str(self._path))
        finally:
            os.umask(before)
        self._file = _identity(self._path)

    @property
    def lost(self) -> bool:
        """Whether its file is not there any more, or is another one."""
        try:
            return _identity(self._path) != self._file
        except OSError:
            return True

    def remove(self) -> None:
        """Removes the file, unless it is another daemon's by now. Call it when the socket is closed."""
        with contextlib.suppress(FileNotFoundError):
            # The number of an inode is given again, so a file of ours that lives again is not ours.
            if _identity(self._path) == self._file and not _answers(self._path):
                self._path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def bind(address: str) -> socket.socket:
    """A TCP socket that listens. Raises BindError."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, proto, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] beside 0.0.0.0 on one port
            sock.bind(place)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        text = f"cannot listen on {address}: {error.strerror}; change server.listen or stop the other"
        raise BindError(text) from error
    return sock


def bind_admin(path: Path, group: str | None, mode: int = 0o660) -> AdminSocket:
    """The admin socket, for its owner and `group` (None: the service's own). Raises BindError.

    A socket that is there already and that nobody answers at was left by a daemon that was killed.
    """
    sock = AdminSocket(path)
    try:
        _make_folder(path.parent)
        _clear(path)
        sock.make()
        if group is not None:
            shutil.chown(path, group=group)
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except (OSError, LookupError) as error:
        sock.close()
        raise BindError(f"cannot make the admin socket {path}: {error}") from error
    return sock


def bind_once(admin: Path, group: str | None, mode: int) -> AdminSocket:
    """A socket beside the admin socket, for those who may use that, that takes one connection. Raises BindError."""
    sock = bind_admin(admin.with_name(f"{admin.name}{ONCE}{secrets.token_hex(8)}"), group, mode)
    sock.listen(1)
    sock.setblocking(False)
    return sock


def clear_once(admin: Path) -> None:
    """Removes those that a daemon which was killed left behind. Call it as the one that has the admin socket."""
    with contextlib.suppress(OSError):
        for path in [*admin.parent.iterdir()]:
            if path.name.startswith(f"{admin.name}{ONCE}") and stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()


def _make_folder(folder: Path) -> None:
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700 if places.is_shared(one) else 0o755, exist_ok=True)
    why = places.why_unsafe(folder)
    if not why and folder.stat().st_uid not in (0, os.geteuid()):
        why = f"{folder} belongs to another user"
    if why:
        raise PermissionError(f"{why}; choose another with --admin-socket")


def _clear(path: Path) -> None:
    """Removes a socket that is dead, and nothing else."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError("there is a file that is no socket; remove it or choose another with --admin-socket")
        if _answers(path):
            raise FileExistsError("another daemon answers there; stop it or choose another with --admin-socket")
        path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except TimeoutError:
            pass
    return True
