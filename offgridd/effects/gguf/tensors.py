"""Walks the table of tensors in a GGUF header; used by `reader`, after the keys.

It must never read tensor data, and must find every number in the table possible before the engine computes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridd.effects.gguf.types import (
    ALIGNMENT,
    INT64,
    MAX_DIMS,
    MAX_NAME,
    TENSOR_TYPES,
    Facts,
    malformed,
    show,
    truncated,
)

if TYPE_CHECKING:
    from offgridd.effects.gguf.cursor import Cursor

_DEFAULT_ALIGNMENT = 32
_ROWS = 8  # that the engine lays out side by side


def read_tensors(cursor: Cursor, count: int, facts: Facts) -> None:
    """Check `count` tensors. The engine wants their data packed in the table's order, so that no two can overlap."""
    declared = facts.values.get(ALIGNMENT)
    alignment = declared if isinstance(declared, int) else _DEFAULT_ALIGNMENT
    seen = facts.names
    end = packed = 0  # counted from the start of the data: where it ends so far, and where the next one begins
    for _ in range(count):
        at = cursor.pos
        name = cursor.short_string(MAX_NAME, "tensor name length")
        if name in seen:
            raise malformed(at, f"there is a second tensor {show(name)}")
        seen.add(name)
        size = _tensor_bytes(cursor, name, facts)
        offset = cursor.u64()
        if offset != packed:
            raise malformed(cursor.pos - 8, f"tensor {show(name)} has its data at {offset}, not at {packed}")
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
        elements *= max(dim, 1)  # a zero must not hide an impossible dimension beside it
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
    size = elements // block * width
    _note(name, shape, kind, size, facts)
    return size


def _note(name: bytes, shape: list[int], kind: int, size: int, facts: Facts) -> None:
    """Keeps what the memory that a model takes depends on."""
    looked_up = name == b"token_embd.weight"
    if looked_up:
        facts.embedding_row = shape[0] if shape else 1
    facts.own_output = facts.own_output or name == b"output.weight"
    facts.classifier = facts.classifier or name in (b"cls.weight", b"cls.output.weight")
    if len(shape) > 1 and shape[1] % _ROWS == 0:
        sums = facts.embedding if looked_up else facts.multiplied
        sums[kind] = sums.get(kind, 0) + size


def _pad(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment
