"""A file on its way: `NAME.part` with its bytes, and `NAME.map` with what of it is safely there.

A piece counts once its bytes were synced; the map is replaced whole, so that it is the old one or the new. Bytes that
a kill leaves behind without their bit are fetched again. A map that is damaged, or of another file, counts for nothing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from offgridd.effects.piped import Piped
from offgridd.effects.transfer.pieces import PIECE, WINDOW, Pieces, from_bits, to_bits
from offgridd.failpoints import failpoint

VERSION = 1


class PartInUse(Exception):
    """Another process fetches the same file."""


class Part:
    """Open while it is used, by one process. `write` and `sync` are for any thread, the rest for one at a time."""

    def __init__(self, folder: Path, name: str, size: int, piece: int = PIECE) -> None:
        """Opens or makes it. Raises PartInUse, OSError."""
        self.path, self._map = folder / f"{name}.part", folder / f"{name}.map"
        self.fd = _locked(self.path, name)
        try:
            self.pieces = Pieces(size, piece, max(WINDOW, piece), self._known(size, piece))
            os.ftruncate(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def write(self, data: bytes | Piped, at: int) -> None:
        """Raises OSError."""
        failpoint("part.write")
        if isinstance(data, Piped):
            data.into(self.fd, at)
            return
        view = memoryview(data)
        while view:
            wrote = os.pwrite(self.fd, view, at)
            view, at = view[wrote:], at + wrote

    def sync(self) -> None:
        """What was written is safe afterwards. Raises OSError."""
        failpoint("part.before-sync")
        os.fdatasync(self.fd)

    def save(self, done: Collection[int], sources: tuple[str, ...] = ()) -> None:
        """Notes that these pieces are here; `sources` says from where, for people. Raises OSError."""
        pieces = self.pieces
        found = {"version": VERSION, "size": pieces.size, "piece": pieces.piece, "sources": list(sources),
                 "done": to_bits(done, pieces.count)}  # fmt: skip
        text = json.dumps(found | {"check": _check(found)})
        new = self._map.with_suffix(".map.new")
        failpoint("part.before-map")
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fdatasync(file.fileno())
        failpoint("part.map-written")
        os.replace(new, self._map)
        failpoint("part.after-map")

    def close(self) -> None:
        os.close(self.fd)

    def forget_map(self) -> None:
        self._map.unlink(missing_ok=True)
        self._map.with_suffix(".map.new").unlink(missing_ok=True)

    def _known(self, size: int, piece: int) -> set[int]:
        """The pieces that the map names, if it is whole and of this file."""
        try:
            found = json.loads(self._map.read_bytes())
            check = found.pop("check")
            same = (found["version"], found["size"], found["piece"]) == (VERSION, size, piece)
            if check != _check(found) or not same or os.fstat(self.fd).st_size != size:
                return set()
            return from_bits(found["done"], -(-size // piece))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EISDIR):
                raise
            return set()


def _locked(path: Path, name: str) -> int:
    """The file, open and ours alone. Raises PartInUse, OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise PartInUse(name) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was finished and renamed in between: what is locked here is a blob now


def _check(found: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
