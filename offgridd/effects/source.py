"""Reads the manifest and its conf.d as bytes. Knows nothing of what they mean."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LIMIT = (1 << 20) + 1  # bytes of one file: one more than is accepted, so that too long is seen


def read(path: Path) -> tuple[tuple[str, bytes], ...]:
    """The files' names and contents, the manifest first, fragments in byte order. Raises OSError."""
    folder = path.parent / "conf.d"
    listed = os.listdir(folder) if folder.is_dir() else []
    names = sorted((n for n in listed if n.endswith(".yaml") and n[0] != "."), key=os.fsencode)
    return tuple((_shown(one), _bytes(one)) for one in (path, *(folder / n for n in names)))


def _shown(path: Path) -> str:
    """The name as text that can be sent anywhere, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _bytes(path: Path) -> bytes:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a FIFO would keep us waiting for ever
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return file.read(LIMIT)
