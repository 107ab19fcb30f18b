"""Opens a model file without ever hanging and reads its GGUF header; called by the verifier, on a worker thread.

The file may be anything that a stranger made. Reading must never recurse, never allocate or loop by a number that the
file declares before that number was held against the file's size, never read tensor data, and never raise anything of
its own but `GgufError`.
"""

from __future__ import annotations

import errno
import os
import stat
from hashlib import blake2b

from offgridd.core.observed import ModelHeader
from offgridd.effects.gguf.check import check_model
from offgridd.effects.gguf.cursor import Cursor
from offgridd.effects.gguf.lookalike import SNIFF, looks_like
from offgridd.effects.gguf.types import (
    FORMATS,
    INT64,
    MAX_ALIGNMENT,
    MAX_DIMS,
    MAX_FACTS,
    MAX_HEADS,
    MAX_KEYS,
    MAX_NAME,
    MAX_TENSORS,
    MAX_TEXT,
    NOT_GGUF,
    NOT_REGULAR,
    TENSOR_TYPES,
    UNSUPPORTED,
    Array,
    Facts,
    GgufError,
    Kind,
    Value,
    malformed,
    show,
    truncated,
)

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRONG_KIND = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV)  # symlink, socket or a device without a driver
_WIDTHS = {Kind.U8: 1, Kind.I8: 1, Kind.BOOL: 1, Kind.U16: 2, Kind.I16: 2, Kind.U32: 4, Kind.I32: 4, Kind.F32: 4}
_WIDTHS |= {Kind.U64: 8, Kind.I64: 8, Kind.F64: 8}
_KEY_BYTES = 8  # a key's length: less than any whole record, so that a lying length is judged itself
_TENSOR_BYTES = 24  # of the smallest tensor record: length, dimensions, type, offset
_ALIGNMENT = "general.alignment"
_TEMPLATE = "tokenizer.chat_template"
_HEADS = ".attention.head_count"
_KEPT = frozenset(
    {
        "general.architecture",
        "general.name",
        "general.type",
        "general.file_type",
        _ALIGNMENT,
        "split.no",
        "split.count",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
    }
)
# Which architecture it is may come later in the file, so these are kept whatever stands before them.
_KEPT_ENDS = (
    ".context_length",
    ".block_count",
    ".embedding_length",
    ".features_length",
    ".vocab_size",
    ".ssm.conv_kernel",
    ".wkv.head_size",
    _HEADS,
)


def open_regular(path: str | os.PathLike[str]) -> int:
    """A descriptor of a regular file, for reading; the caller closes it. Never waits, whatever is at the path.

    Raises GgufError(NotARegularFile) for a symbolic link, directory, FIFO, socket or device. What the system says of a
    path that is missing or not ours to read (FileNotFoundError, PermissionError, other OSError) passes as it is.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as err:
        if err.errno in _WRONG_KIND:
            what = "a symbolic link" if err.errno == errno.ELOOP else "a socket or a device"
            raise _not_regular(what) from err
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
    cursor = Cursor(fd, size)
    tensors, keys = _preamble(cursor)
    facts = Facts(tensor_count=tensors)
    _read_keys(cursor, keys, facts)
    alignment = _alignment(cursor, facts)
    _read_tensors(cursor, tensors, alignment, facts)
    return check_model(facts)


def _preamble(cursor: Cursor) -> tuple[int, int]:
    """Magic, version and the counts of tensors and keys."""
    head = os.pread(cursor.fd, SNIFF, 0)
    if not head.startswith(b"GGUF"):
        what = looks_like(head, cursor.size)
        raise GgufError(
            NOT_GGUF, f"cannot use the file as a model: it is {what}, not a GGUF; get the model's file again"
        )
    cursor.skip(4)
    version = cursor.u32()
    if version not in (2, 3):
        what = "big-endian" if version & 0xFFFF == 0 and version else f"GGUF version {version}"
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


def _read_keys(cursor: Cursor, count: int, facts: Facts) -> None:
    seen: set[bytes] = set()
    for _ in range(count):
        at = cursor.pos
        key = _key(cursor, seen)
        kind = cursor.i32()
        if not 0 <= kind <= Kind.F64:
            raise malformed(cursor.pos - 4, f"key {show(key)} has the unknown value type {kind}")
        value = _read_value(cursor, key, Kind(kind), facts)
        if value is None:
            continue
        if len(facts.values) >= MAX_FACTS:
            raise malformed(at, f"there are more than {MAX_FACTS} keys about the architecture")
        facts.values[key] = value


def _key(cursor: Cursor, seen: set[bytes]) -> str:
    at = cursor.pos
    raw = _short(cursor, MAX_TEXT, "key length")
    # 100,000 long keys would be gigabytes: what is held of each has a bound.
    mark = raw if len(raw) <= 32 else blake2b(raw, digest_size=33).digest()
    if not raw or mark in seen:
        raise malformed(at, f"there is a second key {show(raw)}" if raw else "there is an empty key")
    seen.add(mark)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise malformed(at, f"key {show(raw)} is not UTF-8") from err


def _short(cursor: Cursor, most: int, what: str) -> bytes:
    """A string that is read whole."""
    length = cursor.u64()
    if length > most:
        raise malformed(cursor.pos - 8, f"{what} {length} is over {most}")
    return cursor.take(length)


def _read_value(cursor: Cursor, key: str, kind: Kind, facts: Facts) -> Value | None:
    """Step over one value; return it if it is of use later."""
    keep = key in _KEPT or key.endswith(_KEPT_ENDS)
    if kind is Kind.ARRAY:
        array = _read_array(cursor, key)
        return array if keep else None
    if kind is not Kind.STR:
        value = cursor.scalar(FORMATS[kind], _WIDTHS[kind])
        return value if keep else None
    if keep and key in _KEPT:
        return _text(cursor, key)
    length = cursor.u64()
    cursor.fits(length, 1, "string length")
    cursor.skip(length)
    if key == _TEMPLATE:
        facts.has_chat_template = length > 0
    return "" if keep else None


def _text(cursor: Cursor, key: str) -> str:
    length = cursor.u64()
    cursor.fits(length, 1, "string length")
    if length > MAX_TEXT:
        raise malformed(cursor.pos - 8, f"the text of {show(key)} is over {MAX_TEXT} bytes")
    return cursor.take(length).decode("utf-8", "replace")


def _read_array(cursor: Cursor, key: str) -> Array:
    kind, count = cursor.i32(), cursor.u64()
    if kind == Kind.STR:
        cursor.fits(count, 8, "array length")
        cursor.skip_strings(count)
        return Array(kind, count)
    if not 0 <= kind <= Kind.F64 or kind == Kind.ARRAY:
        raise malformed(cursor.pos - 12, f"key {show(key)} is an array of type {kind}, which cannot be")
    width = _WIDTHS[Kind(kind)]
    cursor.fits(count, width, "array length")
    if key.endswith(_HEADS) and count <= MAX_HEADS and kind in (Kind.U32, Kind.I32):
        heads = [int(cursor.scalar(FORMATS[Kind(kind)], width)) for _ in range(count)]
        return Array(kind, count, max(heads, default=0))
    cursor.skip(count * width)
    return Array(kind, count)


def _alignment(cursor: Cursor, facts: Facts) -> int:
    value = facts.values.get(_ALIGNMENT, 32)
    if type(value) is not int or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        text = show(value) if isinstance(value, str) else str(value)
        raise malformed(
            cursor.pos, f"the keys end and {_ALIGNMENT} is {text}, not a power of two up to {MAX_ALIGNMENT}"
        )
    return value


def _read_tensors(cursor: Cursor, count: int, alignment: int, facts: Facts) -> None:
    """Check the table of tensors. The engine wants their data packed in the table's order, so no two can overlap."""
    seen: set[bytes] = set()
    end = packed = 0  # of the data so far, counted from its start: where it ends, and where the next one begins
    for _ in range(count):
        at = cursor.pos
        name = _short(cursor, MAX_NAME, "tensor name length")
        if name in seen:
            raise malformed(at, f"there is a second tensor {show(name)}")
        seen.add(name)
        size = _tensor_bytes(cursor, name, facts)
        offset = cursor.u64()
        if offset != packed:
            raise malformed(cursor.pos - 8, f"tensor {show(name)} has its data at {offset} instead of {packed}")
        end, facts.tensor_bytes = packed + size, facts.tensor_bytes + size
        packed = _pad(end, alignment)
        if packed >= INT64:
            raise malformed(at, f"the tensors up to {show(name)} are larger than any file")
    needed = _pad(cursor.pos, alignment) + end if count else cursor.pos
    if needed > cursor.size:
        raise truncated(needed, cursor.size)


def _tensor_bytes(cursor: Cursor, name: bytes, facts: Facts) -> int:
    """Read the shape and type of a tensor; how much data it has."""
    at = cursor.pos
    rank = cursor.u32()
    if rank > MAX_DIMS:
        raise malformed(at, f"tensor {show(name)} has {rank} dimensions, at most {MAX_DIMS} are possible")
    shape = [cursor.u64() for _ in range(rank)]
    row = shape[0] if shape else 1
    elements = 1
    for dim in shape:
        elements *= max(dim, 1)  # a zero must not hide an impossible dimension after it
    if elements >= INT64:
        raise malformed(at, f"tensor {show(name)} has more elements than any file could hold")
    kind = cursor.i32()
    block, width = TENSOR_TYPES.get(kind, (0, 0))
    if not block:
        raise malformed(cursor.pos - 4, f"tensor {show(name)} has the unknown or removed type {kind}")
    if row % block:
        raise malformed(at, f"tensor {show(name)} has rows of {row} elements, its type wants a multiple of {block}")
    if 0 in shape:
        facts.empty_tensor = facts.empty_tensor or show(name)
        return 0
    if name == b"token_embd.weight":
        facts.embedding_row = row
    return elements // block * width


def _pad(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
