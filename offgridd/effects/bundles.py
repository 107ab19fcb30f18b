"""Bundles as bytes: a tar that is written in one go, or members read one by one, never extracted. Blocking."""

from __future__ import annotations

import hashlib
import io
import os
import select
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from offgridd.core.bundle import HEAD, MOST_HEAD, Bundle, BundleError, blob_name, blob_of, read_head, write_head

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE = 4 << 20  # bytes
LOOK = 0.5  # seconds between two looks whether somebody wants to stop
BETWEEN = PIECE + (
    1 << 20
)  # bytes that are read of a tar from the end of one member to the next; a piece is read ahead
Came = Callable[[int], None]  # so many bytes more; may raise to end it


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """`size` in bytes; to be read before the next one is asked for."""

    name: str
    size: int
    file: Readable


class Opened(io.RawIOBase):
    """A descriptor that is read or written while `check` lets it: a pipe must not hold up who wants to stop."""

    def __init__(self, fd: int, check: Callable[[], None]) -> None:
        super().__init__()
        self._fd, self._check = fd, check
        self._most = PIECE if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF  # what never blocks once ready

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        self._wait(read=True)
        return os.readv(self._fd, [buffer])

    def write(self, data: Buffer, /) -> int:
        """All of it. Raises BundleError."""
        view = memoryview(data)
        while view:
            self._wait(read=False)
            try:
                view = view[os.write(self._fd, view[: self._most]) :]
            except OSError as error:
                raise BundleError(f"cannot write the bundle: {error.strerror}") from error
        return memoryview(data).nbytes

    def _wait(self, *, read: bool) -> None:
        """Raises what `check` does."""
        poll = select.poll()  # select takes no descriptor beyond 1023, and a daemon may have those
        poll.register(self._fd, select.POLLIN if read else select.POLLOUT)
        self._check()
        while not poll.poll(LOOK * 1000):
            self._check()


class _Checked:
    """A blob on its way out: hashed as it is read, so that what has rotted does not travel."""

    def __init__(self, file: IO[bytes], came: Came) -> None:
        self._file, self._came, self._hash = file, came, hashlib.sha256()

    def read(self, size: int = PIECE, /) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        self._came(len(data))
        return data

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_tar(out: Opened, bundle: Bundle, where: Callable[[str], Path], came: Came) -> None:
    """Writes the whole tar; `where` says where a blob lies. Raises BundleError, OSError, what `came` does."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=PIECE) as tar:
        head = write_head(bundle)
        tar.addfile(_info(HEAD, len(head)), io.BytesIO(head))
        for sha256, size in sorted(bundle.blobs.items()):
            with where(sha256).open("rb") as file:
                checked = _Checked(file, came)
                try:
                    tar.addfile(_info(blob_name(sha256), size), checked)
                except tarfile.TarError as error:
                    raise BundleError(f"cannot write the bundle: {error}") from error
            if checked.sha256 != sha256:
                raise BundleError(
                    f"cannot bundle {blob_name(sha256)}: its bytes have changed; run offgrid verify --deep"
                )


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644  # all else, time and owner among it, is zero
    return info


class _Rationed(io.RawIOBase):
    """What a tar is read from, `left` bytes more at most: tarfile would take in a header of any length as a whole."""

    def __init__(self, file: Opened) -> None:
        super().__init__()
        self._file, self.left = file, BETWEEN

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Raises BundleError, OSError, what the file's `check` does."""
        count = self._file.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise BundleError("cannot read the bundle: what stands between two of its files has no end")
        return count


def tar_members(file: Opened) -> Iterator[Member]:
    """The members of a tar, which may come from a pipe. Raises BundleError, OSError."""
    try:
        source = _Rationed(file)
        with tarfile.open(fileobj=source, mode="r|", bufsize=PIECE) as tar:
            for info in tar:
                source.left = BETWEEN + max(0, info.size)
                if not info.isreg() or info.issparse():
                    raise BundleError(f"cannot use the bundle: {info.name[:100]!r} is no plain file")
                opened = tar.extractfile(info)
                assert opened is not None
                yield Member(info.name, info.size, _Read(opened))
    except (tarfile.TarError, RecursionError) as error:  # headers of headers of headers
        raise BundleError(f"cannot read the bundle: {error}; it is no tar, or was cut off") from None


@dataclass(frozen=True, slots=True)
class _Read:
    file: IO[bytes]

    def read(self, size: int, /) -> bytes:
        try:
            return self.file.read(size)
        except tarfile.TarError as error:
            raise BundleError(f"cannot read the bundle: {error}; it was cut off") from None


def file_member(name: str, fd: int) -> Member:
    """A file of a folder that is a bundle. Raises BundleError."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"cannot use the bundle: {name[:100]!r} is no plain file")
    return Member(name, found.st_size, open(fd, "rb", closefd=False))


class BundleReader:
    """Reads `bundle.json`, which must come first, and then the blobs that it names."""

    def __init__(self, members: Iterator[Member]) -> None:
        self._members = members

    def head(self) -> Bundle:
        """Raises BundleError, OSError."""
        first = next(self._members, None)
        if first is None or first.name != HEAD:
            raise BundleError(f"cannot use the bundle: it does not begin with {HEAD}")
        if first.size > MOST_HEAD:
            raise BundleError(f"cannot read {HEAD}: it is larger than {MOST_HEAD >> 20} MiB")
        return read_head(_whole(first))

    def blobs(self, bundle: Bundle) -> Iterator[tuple[str, Member]]:
        """The sha256 and content of each blob, all of them and no other. Raises BundleError, OSError."""
        missing = dict(bundle.blobs)
        for member in self._members:
            sha256 = blob_of(member.name)
            if sha256 is None or missing.pop(sha256, None) != member.size:
                raise BundleError(f"cannot use the bundle: {HEAD} does not name {member.name[:100]!r} of that size")
            yield sha256, member
        if missing:
            raise BundleError(f"cannot use the bundle: {len(missing)} of its blobs are missing; it was cut off")


def _whole(member: Member) -> bytes:
    parts = []
    while data := member.file.read(PIECE):
        parts.append(data)
    return b"".join(parts)
