"""A read position in a file that is not trusted: every step is checked against the file's size first.

Used by `reader` only. It must never map a file (one that shrinks would then kill the process with SIGBUS), never hold
more than one chunk of it, and never allocate by a length that the file declares.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from offgridd.effects.gguf.types import IMPLAUSIBLE, MAX_HEADER, malformed, truncated

CHUNK = 256 << 10
_U64 = struct.Struct("<Q")
_UNPACK = {
    form: struct.Struct(form).unpack_from for form in ("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?", "<q", "<d")
}
_UNPACK["<Q"] = _U64.unpack_from


class Cursor:
    """`read` gives so many bytes from an offset on, fewer at the end; `pos` is the offset of the next byte."""

    __slots__ = ("_base", "_buffer", "pos", "read", "size")

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self.read, self.size, self.pos = read, size, 0
        self._base, self._buffer = 0, b""

    def take(self, count: int) -> bytes:
        """The next `count` bytes. The caller has bounded `count` to much less than a chunk."""
        at = self._ready(count)
        self.pos += count
        return self._buffer[at : at + count]

    def scalar(self, form: str, width: int) -> int | float | bool:
        """One value of a struct format that is `width` bytes long."""
        at = self._ready(width)
        self.pos += width
        value: int | float | bool = _UNPACK[form](self._buffer, at)[0]
        return value

    def u32(self) -> int:
        return int(self.scalar("<I", 4))

    def i32(self) -> int:
        return int(self.scalar("<i", 4))

    def u64(self) -> int:
        return int(self.scalar("<Q", 8))

    def short_string(self, most: int, what: str) -> bytes:
        """A string that is read whole."""
        length = self.u64()
        if length > most:
            raise malformed(self.pos - 8, f"{what} {length} is over {most}")
        return self.take(length)

    def fits(self, count: int, width: int, what: str) -> None:
        """Refuse `count` things of at least `width` bytes, declared just before `pos`, that do not fit the file."""
        if count >= IMPLAUSIBLE:
            raise malformed(self.pos - 8, f"{what} {count} is impossible")
        end = self.pos + count * width
        if end > self.size:
            raise truncated(end, self.size)
        if end > MAX_HEADER:
            raise malformed(self.pos - 8, f"{what} {count} makes the header larger than {MAX_HEADER} bytes")

    def skip(self, count: int) -> None:
        """Step over bytes that `fits` has allowed."""
        self.pos += count

    def skip_strings(self, count: int) -> None:
        """Step over strings. This is where a header's time goes: a vocabulary has up to a million of them."""
        unpack = _U64.unpack_from
        while count:
            at = self._ready(8)
            buffer, last = self._buffer, len(self._buffer) - 8
            length = 0
            while count:
                length = unpack(buffer, at)[0]
                at += 8 + length
                count -= 1
                if at > last:
                    break
            self.pos = self._base + at - length
            self.fits(length, 1, "string length")
            self.skip(length)

    def _ready(self, count: int) -> int:
        """Make `count` bytes from `pos` on available; their index in the buffer."""
        at = self.pos - self._base
        if at >= 0 and at + count <= len(self._buffer):
            return at
        end = self.pos + count
        if end > self.size:
            raise truncated(end, self.size)
        if end > MAX_HEADER:
            raise malformed(self.pos, f"the header goes on beyond {MAX_HEADER} bytes")
        self._base, self._buffer = self.pos, self.read(min(max(CHUNK, count), self.size - self.pos), self.pos)
        if len(self._buffer) < count:  # it shrank while we read it
            raise truncated(end, self._base + len(self._buffer))
        return 0
