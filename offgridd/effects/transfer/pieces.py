"""Which pieces of a file are here, which are on their way, and which is next. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

PIECE = 8 << 20  # bytes
WINDOW = 128 << 20  # bytes behind the completed beginning that may be on their way: what a hasher may lag behind


@dataclass(slots=True)
class Pieces:
    """Pieces are handed out in order, within a window behind the completed beginning, so that a hasher can follow."""

    size: int  # bytes of the file
    piece: int = PIECE
    window: int = WINDOW
    done: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    _first: int = 0  # all before it are done

    def __post_init__(self) -> None:
        self._advance()

    @property
    def count(self) -> int:
        return -(-self.size // self.piece)

    @property
    def prefix(self) -> int:
        """Bytes from the beginning that are all here."""
        return min(self._first * self.piece, self.size)

    @property
    def here(self) -> int:
        """Bytes of all pieces that are here."""
        last = self.size - (self.count - 1) * self.piece
        return len(self.done) * self.piece - (self.piece - last if self.count - 1 in self.done else 0)

    @property
    def complete(self) -> bool:
        return self._first == self.count

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins and ends, in bytes."""
        return number * self.piece, min((number + 1) * self.piece, self.size)

    def take(self) -> int | None:
        """The next piece to fetch; None while there is none, because all are taken or too far ahead."""
        end = min(self.count, self._first + max(1, self.window // self.piece))
        number = next((n for n in range(self._first, end) if n not in self.done and n not in self.taken), None)
        if number is not None:
            self.taken.add(number)
        return number

    def give_back(self, number: int) -> None:
        self.taken.discard(number)

    def finish(self, number: int) -> None:
        self.taken.discard(number)
        self.done.add(number)
        self._advance()

    def forget(self) -> None:
        """Nothing of it is here any more."""
        self.done.clear()
        self._first = 0

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
