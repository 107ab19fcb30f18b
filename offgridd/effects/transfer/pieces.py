"""Which pieces of a file are here, which are on their way, and which is next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

PIECE = 8 << 20  # bytes
LEAST = 1 << 20  # bytes of a span near the end: fewer are not worth a request
_EVEN = 64 << 10
WINDOW = 128 << 20  # bytes behind the completed beginning that may be on their way: what a hasher may lag behind


@dataclass(slots=True)
class Pieces:
    """Bytes are handed out in order, within a window behind the completed beginning, so that a hasher can follow.

    A span lies in one piece. Near the end spans are parts of pieces: all connections are to end at the same time.
    """

    size: int  # bytes of the file
    piece: int = PIECE
    window: int = WINDOW
    done: set[int] = field(default_factory=set)
    least: int = LEAST
    _reached: dict[int, int] = field(default_factory=dict)  # of each span of such a piece: what of it has come
    _missing: dict[int, int] = field(default_factory=dict)  # of each piece that was begun: bytes still to come
    _begun: tuple[int, int] | None = None  # the piece that was handed out in part, and up to where
    _first: int = 0  # all before it are done
    _left: int = 0  # bytes that nobody was sent for

    def __post_init__(self) -> None:
        self._left = self.size - self.here
        self._advance()

    @property
    def count(self) -> int:
        return -(-self.size // self.piece)

    @property
    def prefix(self) -> int:
        """Bytes from the beginning that are all here, those of pieces that are not yet done with them."""
        at = min(self._first * self.piece, self.size)
        while (further := self._reached.get(at, at)) > at:
            at = further
        return at

    @property
    def here(self) -> int:
        """Bytes of all pieces that are here."""
        last = self.size - (self.count - 1) * self.piece
        return len(self.done) * self.piece - (self.piece - last if self.count - 1 in self.done else 0)

    @property
    def complete(self) -> bool:
        return self._first == self.count

    @property
    def shares(self) -> int:
        """How many connections have something to do: of what is still to be handed out."""
        return -(-self._left // min(self.least, self.piece))

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins and ends, in bytes."""
        return number * self.piece, min((number + 1) * self.piece, self.size)

    def take(self, sharers: int = 1) -> tuple[int, int] | None:
        """The next bytes to fetch, of one piece; None while there are none, because all are taken or too far ahead."""
        number, at = self._begun or self._next()
        if number is None:
            return None
        end = self.span(number)[1]
        fair = self._left // (2 * sharers) & -min(_EVEN, self.least) if sharers > 1 else self._left
        stop = min(end, at + max(self.least, fair))
        self._begun = (number, stop) if stop < end else None
        self._missing.setdefault(number, end - at)
        self._reached[at] = at
        self._left -= stop - at
        return at, stop

    def reach(self, start: int, at: int) -> None:
        """The bytes of the span that begins at `start` have come as far as `at`."""
        self._reached[start] = at

    def came(self, start: int, end: int) -> int | None:
        """A span is here; gives its piece's number when with it all of that has come."""
        number = start // self.piece
        self._reached[start] = end
        self._missing[number] -= end - start
        return number if not self._missing[number] else None

    def finish(self, number: int) -> None:
        self._missing.pop(number, None)
        self.done.add(number)
        self._advance()
        first = self._first * self.piece  # spans before it are in no piece that is not done
        for start in [start for start in self._reached if start < first]:
            del self._reached[start]

    def forget(self) -> None:
        """Nothing of it is here any more, and nobody is sent for anything."""
        self.done.clear()
        self._missing.clear()
        self._reached.clear()
        self._begun, self._first, self._left = None, 0, self.size

    def _next(self) -> tuple[int | None, int]:
        end = min(self.count, self._first + max(1, self.window // self.piece))
        number = next((n for n in range(self._first, end) if n not in self.done and n not in self._missing), None)
        return number, (number or 0) * self.piece

    def _advance(self) -> None:
        while self._first in self.done:
            self._first += 1


def to_bits(done: Iterable[int], count: int) -> str:
    """A bitmap in hex, the first piece in the lowest bit of the first byte."""
    bits = bytearray(-(-count // 8))
    for number in done:
        bits[number // 8] |= 1 << number % 8
    return bits.hex()


def from_bits(text: str, count: int) -> set[int]:
    """Raises ValueError."""
    bits = bytes.fromhex(text)
    if len(bits) != -(-count // 8):
        raise ValueError("the bitmap has another length")
    done = {n for n in range(len(bits) * 8) if bits[n // 8] >> n % 8 & 1}
    if done and max(done) >= count:
        raise ValueError("the bitmap has pieces that the file has not")
    return done
