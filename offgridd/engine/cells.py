"""Which sequences hold which cells of a unified cache. Cells that several hold count once. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Segment:
    length: int
    holders: int


class Cells:
    """A sequence's cells are its positions from 0 on, as segments that may be shared with others."""

    def __init__(self) -> None:
        self.used = 0
        self._held: dict[int, list[_Segment]] = {}

    def held(self, sequence: int) -> int:
        """How many positions it holds, shared or not."""
        return sum(s.length for s in self._held.get(sequence, ()))

    def grow(self, sequence: int, count: int) -> None:
        """It holds `count` cells more, alone."""
        segments = self._held.setdefault(sequence, [])
        if segments and segments[-1].holders == 1:
            segments[-1].length += count
        else:
            segments.append(_Segment(count, 1))
        self.used += count

    def shrink(self, sequence: int, count: int) -> None:
        """It no longer holds its last `count` cells, which nobody shares."""
        if count:
            self._held[sequence][-1].length -= count
            self.used -= count

    def share(self, giver: int, taker: int, length: int) -> None:
        """The taker, which holds nothing, holds the giver's first `length` cells too."""
        if self._held.get(taker):
            raise ValueError(f"cannot share with {taker}: it holds cells of its own")
        taken: list[_Segment] = []
        left = length
        for segment in list(self._held[giver]):
            if left <= 0:
                break
            if segment.length > left:
                segment = self._split(segment, left)
            segment.holders += 1
            taken.append(segment)
            left -= segment.length
        self._held[taker] = taken

    def drop(self, sequence: int) -> None:
        """It holds nothing any more."""
        for segment in self._held.pop(sequence, ()):
            segment.holders -= 1
            if segment.holders == 0:
                self.used -= segment.length

    def _split(self, segment: _Segment, at: int) -> _Segment:
        """Makes two of a segment, for all that hold it; the first, of length `at`, is returned."""
        first = _Segment(at, segment.holders)
        segment.length -= at
        for segments in self._held.values():
            if segment in segments:
                segments.insert(segments.index(segment), first)
        return first
