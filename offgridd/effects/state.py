"""The state directory: one lock, one SQLite file, the last good manifest. Written by the lock's holder.

Everything in it can be made anew from the manifest and the files, so what is broken is moved aside, not an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import sqlite3
import stat
import time
from pathlib import Path

from offgridd.core.hub import Pin
from offgridd.core.updates import Look
from offgridd.effects.durable import private, replace_file
from offgridd.effects.records import Inventory, Records
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")

# Numbers are kept as text: SQLite's are signed, a file system's may use all 64 bits.
_SCHEMA = """
create table if not exists generation (id integer primary key check (id = 1), number integer, digest text);
create table if not exists inventory (
    dev text, inode text, size text, mtime_ns text, sha256 text,
    primary key (dev, inode, size, mtime_ns));
create table if not exists pins (model text primary key, pin text);
create table if not exists looks (model text primary key, look text);
create table if not exists unreferenced (model text primary key, seconds text);
"""


class StateLockedError(Exception):
    """Another daemon has this state directory; the text names its pid."""


class State:
    def __init__(self, folder: Path) -> None:
        """Takes the lock. Raises StateLockedError, or OSError where the folder can not be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _tighten(folder)
        self._folder = folder
        self._lock = _lock(folder)
        try:
            self._db = _open(folder / "state.db")
            self._generation = _newest_generation(self._db)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    def generation_of(self, digest: str) -> int:
        """The generation of a manifest with this digest: the last one, or the next one when it differs."""
        number, last = self._generation
        if digest != last:
            self._generation = number + 1, digest
        return self._generation[0]

    def keep_last_good(self, texts: list[tuple[str, bytes]]) -> None:
        """Keeps the manifest and the newest generation. Raises OSError."""
        data = json.dumps([[name, text.decode("utf-8")] for name, text in texts]).encode()
        replace_file(self._folder / "last-good.json", data)
        failpoint("generation.before-write")
        try:
            self._db.execute("insert or replace into generation values (1, ?, ?)", self._generation)
        except sqlite3.Error as error:
            raise _os_error(error) from error
        failpoint("generation.after-write")

    def last_good(self) -> list[tuple[str, bytes]] | None:
        """None where there is none, or none that can be read."""
        try:
            pairs = json.loads((self._folder / "last-good.json").read_bytes())
            return [(str(name), text.encode()) for name, text in pairs]
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def inventory(self) -> Inventory:
        return Inventory(self._db)

    @property
    def pins(self) -> Records[Pin]:
        return Records(self._db, "pins", Pin, "the pin")

    @property
    def looks(self) -> Records[Look]:
        return Records(self._db, "looks", Look, "the last look for something newer")

    @property
    def unreferenced(self) -> Records[dict[str, float]]:
        """One record, `blobs`: by sha256, seconds that nothing referred to it."""
        return Records(self._db, "unreferenced", dict[str, float], "how long nothing refers to files")


def _tighten(folder: Path) -> None:
    """Only we may enter. A folder that is open to others and holds other things than ours is not ours to change."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return
    if any(folder.iterdir()) and not (folder / "lock").exists():
        raise PermissionError(
            errno.EPERM, "it is open to others and holds files that are not ours; name an empty folder"
        )
    folder.chmod(0o700)
    log.warning("closed %s to others: its mode was %o", folder, mode)


def _lock(folder: Path) -> int:
    lock = private(str(folder / "lock"), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StateLockedError(f"cannot use {folder}: the daemon with pid {pid} has it; stop that one") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _open(path: Path) -> sqlite3.Connection:
    """The database, sound; one that is broken is moved aside and begun anew. Raises OSError."""
    try:
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
            aside = f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            log.warning("cannot read %s: %s; it is moved aside as %s, files are hashed again", path, error, aside)
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{end}", path.with_name(aside + end))
        return _connect(path)
    except sqlite3.Error as error:
        raise _os_error(error) from error


def _connect(path: Path) -> sqlite3.Connection:
    os.close(private(str(path), os.O_RDWR))  # SQLite gives its other files the mode of this one
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("pragma journal_mode=wal")
        if (found := db.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _newest_generation(db: sqlite3.Connection) -> tuple[int, str]:
    try:
        number, digest = db.execute("select number, digest from generation").fetchone() or (0, "")
    except sqlite3.Error as error:
        db.close()
        raise _os_error(error) from error
    return int(number), str(digest)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    """Whether it is the file that is at fault, not a full disk or the like. What quick_check finds has no code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _os_error(error: sqlite3.Error) -> OSError:
    return OSError(errno.EIO, f"its database says: {error}")
