"""Walks the keys and values of a GGUF header and keeps the few that matter; used by `reader`.

It must never keep an array's elements, but for a few numbers per layer, or anything else whose size the file decides.
"""

from __future__ import annotations

from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING

from offgridd.effects.gguf.shape import ENDS, LAYERED_ENDS, MERGES
from offgridd.effects.gguf.types import (
    ALIGNMENT,
    ARCHITECTURE,
    FORMATS,
    MAX_ALIGNMENT,
    MAX_FACTS,
    MAX_HEADS,
    MAX_LAYERED,
    MAX_TEXT,
    SPLIT_COUNT,
    SPLIT_NO,
    SPLIT_TENSORS,
    Array,
    Facts,
    Kind,
    Value,
    malformed,
    show,
)

if TYPE_CHECKING:
    from offgridd.effects.gguf.cursor import Cursor

_WIDTHS = MappingProxyType(
    {
        **dict.fromkeys((Kind.U8, Kind.I8, Kind.BOOL), 1),
        **dict.fromkeys((Kind.U16, Kind.I16), 2),
        **dict.fromkeys((Kind.U32, Kind.I32, Kind.F32), 4),
        **dict.fromkeys((Kind.U64, Kind.I64, Kind.F64), 8),
    }
)
# Keys whose type the format itself gives; the engine dies of another one in split.no.
_TYPED = MappingProxyType({ARCHITECTURE: Kind.STR, ALIGNMENT: Kind.U32, SPLIT_NO: Kind.U16})
_TEMPLATE = "tokenizer.chat_template"
_KEPT = frozenset(
    {
        ARCHITECTURE,
        ALIGNMENT,
        "general.name",
        "general.type",
        "adapter.type",
        "general.file_type",
        SPLIT_NO,
        SPLIT_COUNT,
        SPLIT_TENSORS,
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores",
        "tokenizer.ggml.token_type",
        MERGES,
    }
)
# Which architecture it is may come later in the file, so these are kept whatever stands before them.
_KEPT_ENDS = (
    ".context_length",
    ".block_count",
    ".embedding_length",
    ".features_length",
    ".vocab_size",
    ".wkv.head_size",
    *ENDS,
)


def read_keys(cursor: Cursor, count: int, facts: Facts) -> None:
    """Check `count` pairs of key and value, and put what matters of them into `facts`."""
    seen: set[bytes] = set()
    for _ in range(count):
        at = cursor.pos
        key = _key(cursor, seen)
        kind = cursor.i32()
        if not 0 <= kind <= Kind.F64:
            raise malformed(cursor.pos - 4, f"key {show(key)} has the unknown value type {kind}")
        if _TYPED.get(key, kind) != kind:
            raise malformed(cursor.pos - 4, f"{key} has the value type {kind}, not {_TYPED[key]:d}")
        value = _read_value(cursor, key, Kind(kind), facts)
        if value is None:
            continue
        if key == ALIGNMENT:
            _check_alignment(at, value)
        if len(facts.values) >= MAX_FACTS:
            raise malformed(at, f"there are more than {MAX_FACTS} keys about the architecture")
        facts.values[key] = value


def _key(cursor: Cursor, seen: set[bytes]) -> str:
    at = cursor.pos
    raw = cursor.short_string(MAX_TEXT, "key length")
    # 100,000 long keys would be gigabytes: what is held of each has a bound.
    mark = raw if len(raw) <= 32 else blake2b(raw, digest_size=33).digest()
    if not raw or mark in seen:
        raise malformed(at, f"there is a second key {show(raw)}" if raw else "there is an empty key")
    seen.add(mark)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise malformed(at, f"key {show(raw)} is not UTF-8") from err


def _check_alignment(at: int, value: Value) -> None:
    if not isinstance(value, int) or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise malformed(at, f"{ALIGNMENT} is {value}, not a power of two up to {MAX_ALIGNMENT}")


def _read_value(cursor: Cursor, key: str, kind: Kind, facts: Facts) -> Value | None:
    """Step over one value; return it if it is of use later."""
    keep = key in _KEPT or key.endswith(_KEPT_ENDS)
    if kind is Kind.ARRAY:
        array = _read_array(cursor, key, facts)
        return array if keep else None
    if kind is not Kind.STR:
        value = cursor.scalar(FORMATS[kind], _WIDTHS[kind])
        return value if keep else None
    length = cursor.u64()
    cursor.fits(length, 1, "string length")
    if key in _KEPT:
        if length > MAX_TEXT:
            raise malformed(cursor.pos - 8, f"the text of {key} is over {MAX_TEXT} bytes")
        return cursor.take(length).decode("utf-8", "replace")
    cursor.skip(length)
    if key == _TEMPLATE:
        facts.has_chat_template = length > 0
    return "" if keep else None  # no number: the check refuses it


def _read_array(cursor: Cursor, key: str, facts: Facts) -> Array:
    kind, count = cursor.i32(), cursor.u64()
    if kind == Kind.STR:
        cursor.fits(count, 8, "array length")
        cursor.skip_strings(count)
        return Array(kind, count)
    if not 0 <= kind <= Kind.F64 or kind == Kind.ARRAY:
        raise malformed(cursor.pos - 12, f"key {show(key)} is an array of type {kind}, which cannot be")
    width = _WIDTHS[Kind(kind)]
    cursor.fits(count, width, "array length")
    layered = key.endswith(LAYERED_ENDS) and count <= MAX_HEADS and kind in (Kind.U32, Kind.I32)
    if layered and facts.layered < MAX_LAYERED:
        facts.layered += 1
        return Array(kind, count, tuple(int(cursor.scalar(FORMATS[Kind(kind)], width)) for _ in range(count)))
    cursor.skip(count * width)
    return Array(kind, count)
