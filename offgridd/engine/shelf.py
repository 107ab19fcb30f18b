"""Finished prefixes on disk, so that they are there after a restart: a file for each saved state, and which there are.

A file holds the tokens from the beginning up to where its state ends, and the state of those from `start` on. The
library's own state files are not used: one that was cut ends the process. Ours are believed only when their checksum,
over all of it, is right; whatever else is found is removed, and its tokens are computed as if nothing had been kept.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from offgridd.engine.prefix import common

MAGIC = b"ogprefx1"
LEAST = 64  # tokens that a file has to save, and the first ones by which files are found
MOST_FILES = 4096
PENDING = 256 << 20  # bytes that may wait to be written; what comes then is not kept
FLUSH = 2.0  # seconds for what still waits when the worker ends
_HEAD = struct.Struct("<8sIIQ32s")  # magic, start, tokens, bytes of the state, checksum of all but this head
_SUFFIX, _PART = ".prefix", ".part"


class Saved(NamedTuple):
    """`state` stands for the tokens from `start` on."""

    tokens: list[int]
    start: int
    state: bytes


@dataclass(eq=False, slots=True)
class _Entry:
    path: Path
    tokens: array[int]
    start: int
    size: int  # bytes of the file
    used: float  # seconds since the epoch


class DamagedError(Exception):
    """It is not what was written, or not for us."""


def digest(key: bytes, start: int, tokens: bytes, state: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=32)
    for part in (key, struct.pack("<II", len(key), start), tokens, state):
        made.update(part)
    return made.digest()


class Shelf:
    """The files in `folder`, of states that `key` stands for; at most `budget` bytes of them.

    One thread asks and gives; another one writes. Nothing of it raises: what can not be kept is not.
    """

    def __init__(self, folder: Path, key: str, budget: int) -> None:
        self._folder, self._key, self._budget = folder, key.encode(), budget
        self._entries: dict[bytes, list[_Entry]] = {}  # by the first LEAST tokens
        self.held = 0  # bytes of files
        self.hits = 0  # files that were of use
        self._queue: deque[Saved] = deque()
        self._pending, self._closing, self._told = 0, False, False
        self._more = threading.Condition()  # guards all of this
        self._scan()
        self._writer = threading.Thread(target=self._write_all, daemon=True)
        self._writer.start()

    def find(self, tokens: Sequence[int], have: int, *, whole: bool) -> list[Saved]:
        """Saved states that continue the first `have` tokens, one behind the other; `whole`: only all of a file."""
        found, wanted = list[Saved](), array("I", tokens)
        while (entry := self._next(wanted, have, whole=whole)) is not None:
            have = common(entry.tokens, wanted)
            saved = self._read(entry)
            if saved is None:
                break
            found.append(saved)
            self.hits += 1
        return found

    def keep(self, tokens: Sequence[int], start: int, state: bytes) -> None:
        """Soon. Not what is short, or does not fit."""
        if len(tokens) - start < LEAST or len(state) > self._budget:
            return
        with self._more:
            if self._pending + len(state) <= PENDING and not self._closing:
                self._queue.append(Saved(list(tokens), start, state))
                self._pending += len(state)
                self._more.notify_all()

    def close(self) -> None:
        """Writes what waits, for a while."""
        with self._more:
            self._closing = True
            self._more.notify_all()
        self._writer.join(FLUSH)

    def _next(self, tokens: array[int], have: int, *, whole: bool) -> _Entry | None:
        """The file that brings most; it has to save LEAST tokens more."""
        with self._more:
            best, most = None, have + LEAST - 1
            for entry in self._entries.get(_first(tokens), ()):
                alike = common(entry.tokens, tokens)
                usable = entry.start <= have and (alike == len(entry.tokens) or not whole)
                if usable and alike > most:
                    best, most = entry, alike
            return best

    def _read(self, entry: _Entry) -> Saved | None:
        try:
            saved = read(entry.path, self._key, entry.size)
            self._touch(entry)
            return saved
        except (OSError, DamagedError) as error:
            self._tell(f"cannot use what was kept in {entry.path.name}: {error}")
            self._remove(entry)
            return None

    def _touch(self, entry: _Entry) -> None:
        entry.used = time.time()
        try:
            os.utime(entry.path)
        except OSError:
            pass  # then it goes sooner

    def _remove(self, entry: _Entry) -> None:
        with self._more:
            same = self._entries.get(_first(entry.tokens), [])
            if entry in same:
                same.remove(entry)
                self.held -= entry.size
        try:
            entry.path.unlink()
        except OSError:
            pass  # it is gone, or can not be removed: it is not used in any case

    def _scan(self) -> None:
        """What earlier lives have left; heads alone are read."""
        try:
            paths = [Path(one.path) for one in os.scandir(self._folder) if one.is_file(follow_symlinks=False)]
        except OSError as error:
            self._tell(f"cannot read {self._folder}: {error.strerror}")
            return
        found = [entry for path in paths if (entry := self._entry_of(path)) is not None]
        for entry in sorted(found, key=lambda one: one.used):
            self._add(entry)

    def _entry_of(self, path: Path) -> _Entry | None:
        try:
            if path.suffix != _SUFFIX:
                raise DamagedError("it was not finished")
            entry = head_of(path)
            if entry.size > self._budget:
                raise DamagedError("it is larger than all may be")
            return entry
        except (OSError, DamagedError):
            try:
                path.unlink()
            except OSError:
                pass
            return None

    def _add(self, entry: _Entry) -> None:
        """The ones not used for longest make room."""
        with self._more:
            self._entries.setdefault(_first(entry.tokens), []).append(entry)
            self.held += entry.size
            every = sorted((one for same in self._entries.values() for one in same), key=lambda one: one.used)
        count = len(every)
        for one in every:
            if self.held <= self._budget and count <= MOST_FILES:
                break
            self._remove(one)
            count -= 1

    def _write_all(self) -> None:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                saved = self._queue.popleft()
                self._pending -= len(saved.state)
            try:
                self._write(saved)
            except OSError as error:
                self._tell(f"cannot keep prefixes in {self._folder}: {error.strerror}")

    def _write(self, saved: Saved) -> None:
        tokens = array("I", saved.tokens)
        check = digest(self._key, saved.start, tokens.tobytes(), saved.state)
        path = self._folder / f"{check.hex()[:32]}{_SUFFIX}"
        if path.exists():
            return
        part = path.with_suffix(_PART)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(_HEAD.pack(MAGIC, saved.start, len(tokens), len(saved.state), check))
                file.write(tokens.tobytes())
                file.write(saved.state)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        self._touch_before(tokens, saved.start)
        size = _HEAD.size + len(tokens) * 4 + len(saved.state)
        self._add(_Entry(path, tokens, saved.start, size, path.stat().st_mtime))

    def _touch_before(self, tokens: array[int], start: int) -> None:
        """What it goes on from is of no less use than itself, and must not go first."""
        while start:
            with self._more:
                same = self._entries.get(_first(tokens), ())
                before = next((e for e in same if e.start < start <= common(e.tokens, tokens)), None)
            if before is None:
                return
            self._touch(before)
            start = before.start

    def _tell(self, text: str) -> None:
        """Once: the same trouble comes again and again."""
        if not self._told:
            self._told = True
            print(text, file=sys.stderr, flush=True)


def head_of(path: Path) -> _Entry:
    """What a file says it holds; its state is not looked at. Raises OSError, DamagedError."""
    with _opened(path) as file:
        info = os.fstat(file.fileno())
        _, start, count, size, _ = _head(file.read(_HEAD.size))
        if info.st_size != _HEAD.size + count * 4 + size or not start + LEAST <= count:
            raise DamagedError("its length is not what it says")
        tokens = array("I", file.read(count * 4))
    return _Entry(path, tokens, start, info.st_size, info.st_mtime)


def read(path: Path, key: bytes, length: int) -> Saved:
    """All of a file that has so many bytes. Raises OSError, DamagedError."""
    with _opened(path) as file:
        _, start, count, size, check = _head(file.read(_HEAD.size))
        if not os.fstat(file.fileno()).st_size == length == _HEAD.size + count * 4 + size:
            raise DamagedError("its length is not what it says")
        tokens, state = file.read(count * 4), file.read(size)
    if digest(key, start, tokens, state) != check:
        raise DamagedError("its checksum is wrong")
    return Saved(array("I", tokens).tolist(), start, state)


def _opened(path: Path) -> BinaryIO:
    """No link, and nothing that makes who opens it wait."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def _head(data: bytes) -> tuple[bytes, int, int, int, bytes]:
    if len(data) != _HEAD.size or not data.startswith(MAGIC):
        raise DamagedError("it is none of ours")
    found: tuple[bytes, int, int, int, bytes] = _HEAD.unpack(data)
    return found


def _first(tokens: Sequence[int]) -> bytes:
    return array("I", tokens[:LEAST]).tobytes()
