"""Files that are there whole or not at all, and that stay."""

from __future__ import annotations

import os
from pathlib import Path

from offgridd.failpoints import failpoint


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Writes whole or not at all, and it stays: part, fsync, rename, fsync of the folder. Raises OSError."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb", opener=private) as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    failpoint("replace.before-rename")
    os.replace(part, path)
    failpoint("replace.after-rename")
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """The names in it stay. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def private(path: str, flags: int) -> int:
    """Opens for us alone, whatever the umask or the file's mode was."""
    fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd
