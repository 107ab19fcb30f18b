"""The bytes of a saved sequence, taken apart and joined by token.

The library saves and restores a sequence whole, and where cells lie in another order than positions it saves them so.
Its format, as in llama_kv_cache::state_write of the pinned version, for a plain cache whose values are not transposed:
magic and sequence id; the number of streams; for each stream its count of cells and, where that is not 0, position, 1
and sequence id of each cell, then two numbers, then for the keys of each layer and for the values of each layer: type,
bytes of a row, and a row a cell. Whoever uses this tries it once on a state of the model at hand: `understood`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

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
    first: int  # lowest position
    order: NDArray[np.intp] | None  # of cells by position; None = as they lie
    count: int
    cells: int  # offset
    blocks: tuple[tuple[int, int], ...]  # offset of each block's head, bytes of its rows

    def rows(self, offset: int, size: int, start: int, stop: int) -> bytes | memoryview:
        """Of the rows of so many bytes at `offset`, one a cell, those of the positions from `start` to `stop`."""
        a, b = start - self.first, stop - self.first
        if self.order is None:
            return self.state[offset + a * size : offset + b * size]
        table = np.frombuffer(self.state, np.uint8, self.count * size, offset).reshape(self.count, size)
        return table[self.order[a:b]].tobytes()


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
    return b"".join(pieces(spans))


def pieces(spans: Sequence[Span]) -> list[bytes | memoryview]:
    """The bytes of that state one behind the other, good for as long as the spans are. Raises LayoutError."""
    parts = [(_parse(state), start, stop) for state, start, stop in spans if start < stop]
    if not parts or any(start < one.first or stop > one.first + one.count for one, start, stop in parts):
        raise LayoutError("a span has positions that its state does not, or there is none")
    first = parts[0][0]
    made: list[bytes | memoryview] = [first.state[: _HEAD.size]]
    made.append(_COUNT.pack(sum(stop - start for _, start, stop in parts)))
    made += [one.rows(one.cells, _CELL.size, start, stop) for one, start, stop in parts]
    after = first.cells + first.count * _CELL.size
    made.append(first.state[after : after + _DATA.size])
    for index, (head, row) in enumerate(first.blocks):
        made.append(first.state[head : head + _BLOCK.size])
        made += [one.rows(one.blocks[index][0] + _BLOCK.size, row, start, stop) for one, start, stop in parts]
    made.append(bytes(_COUNT.size * (first.streams - 1)))
    return made


def _parse(state: bytes | memoryview) -> _Parsed:
    _, _, streams = _HEAD.unpack_from(state)
    at, empty = _HEAD.size, 0
    while (count := _COUNT.unpack_from(state, at)[0]) == 0:
        at, empty = at + _COUNT.size, empty + 1
    cells = at + _COUNT.size
    at = cells + count * _CELL.size
    transposed, _ = _DATA.unpack_from(state, at)
    if empty >= streams or transposed:
        raise LayoutError("there are fewer streams than counts, or values are transposed")
    first, order = _order(state, cells, count)
    at += _DATA.size
    end = len(state) - (streams - empty - 1) * _COUNT.size
    blocks: list[tuple[int, int]] = []
    while at < end:
        row = _BLOCK.unpack_from(state, at)[1]
        blocks.append((at, row))
        at += _BLOCK.size + count * row
    if at != end or not blocks:
        raise LayoutError("the state is longer or shorter than its parts")
    return _Parsed(memoryview(state), streams, first, order, count, cells, tuple(blocks))


def _order(state: bytes | memoryview, cells: int, count: int) -> tuple[int, NDArray[np.intp] | None]:
    """The lowest position, and the cells by position where they do not lie so. Raises LayoutError."""
    table = np.frombuffer(state, np.int32, count * 3, cells).reshape(count, 3)
    positions = table[:, 0]
    order = None if (np.diff(positions) == 1).all() else np.argsort(positions, kind="stable")
    if (table[:, 1] != 1).any() or (order is not None and (np.diff(positions[order]) != 1).any()):
        raise LayoutError("a cell is of several sequences, or a position is missing")
    return int(positions.min()), order
