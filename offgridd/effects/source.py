"""Reads the manifest, its conf.d and its lock as bytes. Knows nothing of what they mean."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from offgridd.core.locking import LOCK_FILE

LIMIT = (1 << 20) + 1  # bytes of one file: one more than is accepted, so that too long is seen
LOCK_LIMIT = (16 << 20) + 1


def read(path: Path) -> tuple[tuple[str, bytes], ...]:
    """The files' names and contents: the manifest, fragments in byte order, and the lock, if any. Raises OSError."""
    folder = path.parent / "conf.d"
    listed = os.listdir(folder) if os.path.lexists(folder) else []  # a link that leads nowhere is not the same as none
    names = sorted((n for n in listed if n.endswith(".yaml") and n[0] != "."), key=os.fsencode)
    found = [(_shown(one), _bytes(one, LIMIT)) for one in (path, *(folder / n for n in names))]
    lock = lock_of(path)
    if os.path.lexists(lock):
        found.append((_shown(lock), _bytes(lock, LOCK_LIMIT)))
    return tuple(found)


def lock_of(path: Path) -> Path:
    """Where the lock of the manifest `path` is, or would be."""
    return path.parent / LOCK_FILE


def _shown(path: Path) -> str:
    """The name as text that can be sent anywhere, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _bytes(path: Path, limit: int) -> bytes:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a FIFO would keep us waiting for ever
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(limit)
