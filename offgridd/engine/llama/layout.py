"""The bytes of a saved sequence, taken apart and joined by token.

With a buffer of cells a sequence the library can only save and restore it whole. Its format, as in
llama_kv_cache::state_write of the pinned version, for a plain cache whose values are not transposed: magic and sequence
id; the number of streams; for each stream its count of cells and, where that is not 0, position, 1 and sequence id of
each cell, then two numbers, then for the keys of each layer and for the values of each layer: type, bytes of a row, and
a row a cell.
Whoever uses this tries it once on a state of the model at hand: `understood`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_HEAD: Final = struct.Struct("<IiI")  # magic, sequence id, streams
_COUNT: Final = struct.Struct("<I")
_CELL: Final = struct.Struct("<iIi")  # position, number of sequence ids, sequence id
_DATA: Final = struct.Struct("<II")  # whether values are transposed, layers
_BLOCK: Final = struct.Struct("<iQ")  # type, bytes of a row

Span = tuple[bytes | memoryview, int, int]  # positions of a state, from the first to before the last


class LayoutError(ValueError):
    """The bytes are not what this module understands."""


@dataclass(frozen=True, slots=True)
class _Parsed:
    state: memoryview
    streams: int
    first: int  # position of the first cell
    count: int
    cells: int  # offset
    blocks: tuple[tuple[int, int], ...]  # offset of each block's head, bytes of its rows


def understood(state: bytes | memoryview) -> bool:
    """Whether a state of sequence 0, of at least 2 tokens, comes out the same when it is taken apart and joined."""
    try:
        parsed = _parse(state)
        middle, end = parsed.first + 1, parsed.first + parsed.count
        whole = join([(state, parsed.first, end)])
        parts = join([(state, parsed.first, middle)]), join([(state, middle, end)])
        again = join([(parts[0], parsed.first, middle), (parts[1], middle, end)])
    except (LayoutError, struct.error):
        return False
    return whole == again == state


def join(spans: Sequence[Span]) -> bytes:
    """One state of them all, each following the one before. Raises LayoutError."""
    parts = [(_parse(state), start, stop) for state, start, stop in spans if start < stop]
    if any(start < one.first or stop > one.first + one.count for one, start, stop in parts):
        raise LayoutError("a span has positions that its state does not")
    rows = [(one, start - one.first, stop - one.first) for one, start, stop in parts]
    if not rows:
        raise LayoutError("there is nothing to join")
    first = rows[0][0]
    made: list[bytes | memoryview] = [first.state[: _HEAD.size], _COUNT.pack(sum(b - a for _, a, b in rows))]
    for one, a, b in rows:
        made.append(one.state[one.cells + a * _CELL.size : one.cells + b * _CELL.size])
    after = first.cells + first.count * _CELL.size
    made.append(first.state[after : after + _DATA.size])
    for index, (head, row) in enumerate(first.blocks):
        made.append(first.state[head : head + _BLOCK.size])
        for one, a, b in rows:
            data = one.blocks[index][0] + _BLOCK.size
            made.append(one.state[data + a * row : data + b * row])
    made.append(bytes(_COUNT.size * (first.streams - 1)))
    return b"".join(made)


def _parse(state: bytes | memoryview) -> _Parsed:
    _, _, streams = _HEAD.unpack_from(state)
    at, empty = _HEAD.size, 0
    while (count := _COUNT.unpack_from(state, at)[0]) == 0:
        at, empty = at + _COUNT.size, empty + 1
    cells = at + _COUNT.size
    first, ids, _ = _CELL.unpack_from(state, cells)
    last = _CELL.unpack_from(state, cells + (count - 1) * _CELL.size)[0]
    at = cells + count * _CELL.size
    transposed, _ = _DATA.unpack_from(state, at)
    if ids != 1 or last != first + count - 1 or transposed:
        raise LayoutError("cells are not in order, or values are transposed")
    if empty >= streams:
        raise LayoutError("there are fewer streams than counts")
    at += _DATA.size
    end = len(state) - (streams - empty - 1) * _COUNT.size
    blocks: list[tuple[int, int]] = []
    while at < end:
        row = _BLOCK.unpack_from(state, at)[1]
        blocks.append((at, row))
        at += _BLOCK.size + count * row
    if at != end or not blocks:
        raise LayoutError("the state is longer or shorter than its parts")
    return _Parsed(memoryview(state), streams, first, count, cells, tuple(blocks))
