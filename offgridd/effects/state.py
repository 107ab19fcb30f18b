"""The state directory: one lock, one SQLite file, the last good manifest. Written by the lock's holder."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from offgridd.core.observed import Identity

_SCHEMA = """
create table if not exists generation (id integer primary key check (id = 1), number integer, digest text);
create table if not exists inventory (
    dev integer, inode integer, size integer, mtime_ns integer, sha256 text,
    primary key (dev, inode, size, mtime_ns));
"""


class StateLockedError(Exception):
    """Another daemon has this state directory; the text names its pid."""


def replace_file(path: Path, data: bytes) -> None:
    """Writes whole or not at all, and it stays: part, fsync, rename, fsync of the folder."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class State:
    def __init__(self, folder: Path) -> None:
        """Takes the lock. Raises StateLockedError, or OSError where the folder can not be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StateLockedError(f"cannot use {folder}: the daemon with pid {pid} has it; stop that one") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self._db = sqlite3.connect(folder / "state.db", isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    def generation_of(self, digest: str) -> int:
        """The generation of a manifest with this digest: the last one, or the next one when it differs."""
        row = self._db.execute("select number, digest from generation").fetchone() or (0, "")
        if row[1] == digest:
            return int(row[0])
        number = int(row[0]) + 1
        self._db.execute("insert or replace into generation values (1, ?, ?)", (number, digest))
        return number

    def keep_last_good(self, texts: list[tuple[str, bytes]]) -> None:
        data = json.dumps([[name, text.decode("utf-8")] for name, text in texts]).encode()
        replace_file(self._folder / "last-good.json", data)

    def last_good(self) -> list[tuple[str, bytes]] | None:
        try:
            return [(name, text.encode()) for name, text in json.loads((self._folder / "last-good.json").read_bytes())]
        except (OSError, ValueError):
            return None

    @property
    def inventory(self) -> Inventory:
        return Inventory(self._db)


class Inventory(MutableMapping[Identity, str]):
    """Which files were hashed, by identity."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __getitem__(self, key: Identity) -> str:
        query = "select sha256 from inventory where dev=? and inode=? and size=? and mtime_ns=?"
        row = self._db.execute(query, (key.dev, key.inode, key.size, key.mtime_ns)).fetchone()
        if row is None:
            raise KeyError(key)
        return str(row[0])

    def __setitem__(self, key: Identity, value: str) -> None:
        row = (key.dev, key.inode, key.size, key.mtime_ns, value)
        self._db.execute("insert or replace into inventory values (?, ?, ?, ?, ?)", row)

    def __delitem__(self, key: Identity) -> None:
        query = "delete from inventory where dev=? and inode=? and size=? and mtime_ns=?"
        self._db.execute(query, (key.dev, key.inode, key.size, key.mtime_ns))

    def __iter__(self) -> Iterator[Identity]:
        return (Identity(*row) for row in self._db.execute("select dev, inode, size, mtime_ns from inventory"))

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from inventory").fetchone()[0])
