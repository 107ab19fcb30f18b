"""A file of somebody else's into the store's folder of parts: cloned, hard-linked, or copied, and hashed there.

What counts is what lies there, not what was offered: the file offered may change at any time. Blocking.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from offgridd.core.observed import Identity
from offgridd.effects.files import identity_of
from offgridd.effects.transfer.pace import Stopped

_FICLONE = 0x40049409  # of linux/fs.h; Python knows no name for it
_PIECE = 4 << 20  # bytes read at once
How = Literal["reflink", "hardlink", "copy"]


class NoWay(Exception):
    """It can neither be cloned nor safely linked."""


class Changing(Exception):
    """It changed while it was read."""


@dataclass
class Staged:
    """`close` takes its name away, too, where it was not made a blob."""

    path: Path
    fd: int
    how: How
    identity: Identity = Identity(0, 0, 0, 0)  # of what was hashed
    sha256: str = ""

    def close(self) -> None:
        os.close(self.fd)
        self.path.unlink(missing_ok=True)


@dataclass
class Stager:
    """`room` raises where a copy of so many bytes has none; `tell` hears how many bytes were read in all so far."""

    room: Callable[[int], None]
    tell: Callable[[int], None]
    copy: bool
    stopped: bool = False
    read: int = 0

    def stop(self) -> None:
        """In any thread: what runs ends soon with Stopped."""
        self.stopped = True

    def stage(self, source: int, path: Path) -> Staged:
        """The file of the descriptor `source`, at `path`. Raises NoWay, Changing, Stopped, OSError, and as `room`."""
        staged = _cloned(source, path) or _linked(source, path)
        if staged is None:
            if not self.copy:
                raise NoWay
            self.room(os.fstat(source).st_size)
            staged = Staged(path, _made(path), "copy")
        try:
            before = identity_of(os.fstat(staged.fd))
            staged.sha256 = self._copied(source, staged.fd) if staged.how == "copy" else self._hashed(staged.fd)
            os.fsync(staged.fd)
            after = identity_of(os.fstat(staged.fd))
            if staged.how != "copy" and after != before:
                raise Changing
            staged.identity = after
        except BaseException:
            staged.close()
            raise
        return staged

    def _hashed(self, fd: int) -> str:
        digest, at = hashlib.sha256(), 0
        while piece := self._piece(fd, at):
            digest.update(piece)
            at += len(piece)
        return digest.hexdigest()

    def _copied(self, source: int, target: int) -> str:
        """Of the bytes that were written."""
        most = os.fstat(source).st_size  # for so many there was room; a file that grows meanwhile is none of ours
        digest, at = hashlib.sha256(), 0
        while at < most and (piece := self._piece(source, at, most - at)):
            digest.update(piece)
            view = memoryview(piece)
            while view:
                wrote = os.pwrite(target, view, at)
                view, at = view[wrote:], at + wrote
        return digest.hexdigest()

    def _piece(self, fd: int, at: int, most: int = _PIECE) -> bytes:
        if self.stopped:
            raise Stopped
        piece = os.pread(fd, min(_PIECE, most), at)
        self.read += len(piece)
        self.tell(self.read)
        return piece


def _made(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _cloned(source: int, path: Path) -> Staged | None:
    """A clone shares the bytes until one of both is written to. None where the file systems can not do that."""
    target = _made(path)
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        os.close(target)
        path.unlink()
        return None
    return Staged(path, target, "reflink")


def _linked(source: int, path: Path) -> Staged | None:
    """Another name of the same file, its mode untouched: only of one that is ours and nobody else's to write to."""
    about = os.fstat(source)
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        return None
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a descriptor of a folder it is linkat, which follows the link in /proc to the file itself.
        os.link(f"/proc/self/fd/{source}", path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
    except OSError:  # another file system, one without links, or a file that has no name any more
        return None
    finally:
        os.close(folder)
    target = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return Staged(path, target, "hardlink")
