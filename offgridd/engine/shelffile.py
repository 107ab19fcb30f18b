"""One file of a shelf: the tokens from the beginning up to where its state ends, and the state of those from `start`.

The library's own state files are not used: one that was cut ends the process. Ours are believed only when their
checksum, over all of it, is right.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAGIC = b"ogprefx1"
LEAST = 64  # tokens that a file has to save, and the first ones by which files are found
SUFFIX, PART = ".prefix", ".part"
_HEAD = struct.Struct("<8sIIQ32s")  # magic, start, tokens, bytes of the state, checksum of all but this head


class Saved(NamedTuple):
    """`state` stands for the tokens from `start` on."""

    tokens: list[int]
    start: int
    state: bytes


@dataclass(eq=False, slots=True)
class Entry:
    """What is known of a file without its state."""

    path: Path
    tokens: array[int]
    start: int
    size: int  # bytes of the file
    used: int  # nanoseconds since the epoch


class DamagedError(Exception):
    """It is not what was written, or not for us."""


def head_of(path: Path) -> Entry:
    """What a file says it holds; its state is not looked at. Raises OSError, DamagedError."""
    with _opened(path) as file:
        info = os.fstat(file.fileno())
        _, start, count, size, _ = _head(file.read(_HEAD.size))
        if info.st_size != _HEAD.size + count * 4 + size or not start + LEAST <= count:
            raise DamagedError("its length is not what it says")
        tokens = array("I", file.read(count * 4))
    return Entry(path, tokens, start, info.st_size, info.st_mtime_ns)


def read(path: Path, key: bytes, length: int) -> Saved:
    """All of a file that has so many bytes. Raises OSError, DamagedError."""
    with _opened(path) as file:
        _, start, count, size, check = _head(file.read(_HEAD.size))
        if not os.fstat(file.fileno()).st_size == length == _HEAD.size + count * 4 + size:
            raise DamagedError("its length is not what it says")
        tokens, state = file.read(count * 4), file.read(size)
    if _digest(key, start, tokens, state) != check:
        raise DamagedError("its checksum is wrong")
    return Saved(array("I", tokens).tolist(), start, state)


def write(folder: Path, key: bytes, saved: Saved) -> Entry:
    """Whole under its own name, or not at all; what has that name already stays. Raises OSError, DamagedError."""
    tokens = array("I", saved.tokens).tobytes()
    check = _digest(key, saved.start, tokens, saved.state)
    path = folder / f"{check.hex()[:32]}{SUFFIX}"
    if not path.exists():
        part = folder / f"{os.urandom(16).hex()}{PART}"  # others may write here, too
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(_HEAD.pack(MAGIC, saved.start, len(saved.tokens), len(saved.state), check))
                file.write(tokens)
                file.write(saved.state)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    return head_of(path)


def _digest(key: bytes, start: int, tokens: bytes, state: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=32)
    for part in (key, struct.pack("<II", len(key), start), tokens, state):
        made.update(part)
    return made.digest()


def _opened(path: Path) -> BinaryIO:
    """No link, and nothing that makes who opens it wait."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _head(data: bytes) -> tuple[bytes, int, int, int, bytes]:
    if len(data) != _HEAD.size or not data.startswith(MAGIC):
        raise DamagedError("it is none of ours")
    found: tuple[bytes, int, int, int, bytes] = _HEAD.unpack(data)
    return found
