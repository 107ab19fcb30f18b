"""Opens a model file without ever hanging and reads its GGUF header; called by the verifier, on a worker thread.

The file may be anything that a stranger made. Reading must never recurse, never allocate or loop by a number that the
file declares before that number was held against the file's size, never read tensor data, and never raise anything of
its own but `GgufError`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from offgridd.effects.gguf.check import check_adapter, check_model
from offgridd.effects.gguf.cursor import Cursor
from offgridd.effects.gguf.keys import read_keys
from offgridd.effects.gguf.lookalike import SNIFF, looks_like
from offgridd.effects.gguf.shards import join
from offgridd.effects.gguf.tensors import read_tensors
from offgridd.effects.gguf.types import (
    MAX_KEYS,
    MAX_TENSORS,
    NOT_GGUF,
    NOT_REGULAR,
    UNSUPPORTED,
    Facts,
    GgufError,
    malformed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offgridd.core.observed import ModelHeader

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEY_BYTES = 8  # a key's length: less than any whole record, so that a lying length is judged itself
_TENSOR_BYTES = 24  # of the smallest tensor record: length, dimensions, type, offset


def open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, for reading; the caller closes it. Never waits, whatever is at the path.

    Raises GgufError(NotARegularFile) for a symbolic link, directory, FIFO, socket or device. What the system says of a
    path that is missing or not ours to read (FileNotFoundError, PermissionError, other OSError) passes as it is.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise _not_regular("a symbolic link") from err
        if err.errno in (errno.ENXIO, errno.ENODEV):
            raise _not_regular("a socket or a device") from err
        raise
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"))
    raise _not_regular(next((name for test, name in kinds if test(mode)), "a device"))


def _not_regular(what: str) -> GgufError:
    return GgufError(NOT_REGULAR, f"cannot read the model file: it is {what}; put the file itself there")


def read_header(fd: int, size: int) -> ModelHeader:
    """Check the header of a file of `size` bytes and say what it declares.

    Raises GgufError for whatever is wrong with the file; an OSError is the disk's.
    """
    return read_model([(fd, size)])


def read_adapter(fd: int, size: int) -> ModelHeader:
    """As `read_header`, of a LoRA adapter: that it is one, and whole."""
    return check_adapter(_walk(Cursor(partial(os.pread, fd), size)))


def read_model(shards: Sequence[tuple[int, int]]) -> ModelHeader:
    """As `read_header`, of a model in several files: each its descriptor and size, in their order."""
    return _judge([Cursor(partial(os.pread, fd), size) for fd, size in shards])


def read_remote(shards: Sequence[tuple[Callable[[int, int], bytes], int]]) -> ModelHeader:
    """The same of files that are elsewhere: each a call that gives so many bytes from an offset on, and its size.

    What the call raises passes.
    """
    return _judge([Cursor(read, size) for read, size in shards])


def _judge(shards: Sequence[Cursor]) -> ModelHeader:
    return check_model(join([_walk(cursor) for cursor in shards]))


def _walk(cursor: Cursor) -> Facts:
    tensors, keys = _preamble(cursor)
    facts = Facts(tensor_count=tensors)
    read_keys(cursor, keys, facts)
    read_tensors(cursor, tensors, facts)
    return facts


def _preamble(cursor: Cursor) -> tuple[int, int]:
    """Magic, version and the counts of tensors and keys."""
    head = cursor.read(min(SNIFF, cursor.size), 0)
    if not head.startswith(b"GGUF"):
        what = looks_like(head, cursor.size)
        raise GgufError(NOT_GGUF, f"cannot use the file as a model: it is {what}, not a GGUF; get the model's file")
    cursor.skip(4)
    version = cursor.u32()
    if version not in (2, 3):
        what = "big-endian" if version and version & 0xFFFF == 0 else f"GGUF version {version}"
        raise GgufError(UNSUPPORTED, f"cannot read the model: it is {what}; use a little-endian file of version 2 or 3")
    tensors = _count(cursor, _TENSOR_BYTES, MAX_TENSORS, "tensor count")
    keys = _count(cursor, _KEY_BYTES, MAX_KEYS, "key count")
    return tensors, keys


def _count(cursor: Cursor, width: int, most: int, what: str) -> int:
    count = cursor.u64()
    cursor.fits(count, width, what)
    if count > most:
        raise malformed(cursor.pos - 8, f"{what} {count} is over {most}")
    return count
