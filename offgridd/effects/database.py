"""state.db: opened sound and of this version, or moved aside, or refused.

A database of an older version is copied, the copy migrated and put in its place, so that a kill at any moment leaves
the one or the other. One of a newer version is not written to: the offgridd that made it would miss what we did not do.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from offgridd.effects.durable import private, sync_folder
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")

# What makes each version of the one before it. Numbers are kept as text: SQLite's are signed, a file system's may use
# all 64 bits. The first version had no number, so that the first step is for what may be there already.
STEPS: Final[tuple[str, ...]] = (
    """
    create table if not exists generation (id integer primary key check (id = 1), number integer, digest text);
    create table if not exists inventory (
        dev text, inode text, size text, mtime_ns text, sha256 text,
        primary key (dev, inode, size, mtime_ns));
    create table if not exists pins (model text primary key, pin text);
    create table if not exists looks (model text primary key, look text);
    create table if not exists unreferenced (model text primary key, seconds text);
    create table history (number integer primary key, digest text, accepted real);
    create table events (number integer primary key, event text);
    """,
    """
    create table checked (model text primary key, at text);
    """,
    """
    alter table history add column source text default '';
    create table benchmarks (id integer primary key autoincrement, model text, load_key text, at real, record text);
    create index benchmarks_by_model on benchmarks (model, id);
    """,
    """
    create table peaks (model text primary key, peaks text);
    """,
    """
    create table verdicts (model text primary key, verdict text);
    """,
    """
    alter table benchmarks add column uid text;
    alter table benchmarks add column imported integer not null default 0;
    update benchmarks set uid = lower(hex(randomblob(16)));
    create unique index benchmarks_by_uid on benchmarks (uid);
    """,
    """
    create table tunings (model text primary key, tuning text);
    """,
)
VERSION: Final = len(STEPS)
CACHE: Final = 512  # KiB of pages that are held in memory: little is ever read


class StateTooNewError(Exception):
    """A newer offgridd wrote this state; the text names both versions."""


def open_database(path: Path) -> sqlite3.Connection:
    """The database, sound; one that is broken is moved aside and begun anew. Raises OSError, StateTooNewError."""
    try:
        _finish(path)
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
        raise os_error(error) from error


def os_error(error: sqlite3.Error) -> OSError:
    return OSError(errno.EIO, f"its database says: {error}")


def _connect(path: Path) -> sqlite3.Connection:
    os.close(private(str(path), os.O_RDWR))  # SQLite gives its other files the mode of this one
    found = _version(path) if path.stat().st_size else None
    if found is not None and found > VERSION:
        text = (
            f"cannot use {path}: its version is {found}, this offgridd knows {VERSION}; start the newer offgridd again"
        )
        raise StateTooNewError(text)
    if found is not None and found < VERSION:
        _migrate(path, found)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if found is None:
            _step(db, 0)
        db.execute("pragma journal_mode=wal")
        db.execute(f"pragma cache_size=-{CACHE}")
        if (sound := db.execute("pragma quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(sound)
    except BaseException:
        db.close()
        raise
    return db


def _version(path: Path) -> int:
    """From the file's header, as https://www.sqlite.org/fileformat2.html has it: SQLite would make files beside it."""
    with open(path, "rb") as file:
        header = file.read(64)
    return int.from_bytes(header[60:64], "big") if header.startswith(b"SQLite format 3\0") else VERSION


def _migrate(path: Path, found: int) -> None:
    """Copy, change the copy, then put it in place."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    old = sqlite3.connect(path, isolation_level=None)
    try:
        old.execute("vacuum into ?", (str(new),))
    finally:
        old.close()
    failpoint("migrate.after-copy")
    made = sqlite3.connect(new, isolation_level=None)
    try:
        _step(made, found)
    finally:
        made.close()
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    new.chmod(0o600)
    for end in ("-wal", "-shm"):  # they belong to the old one, which was closed: all that they held is in the copy
        path.with_name(path.name + end).unlink(missing_ok=True)
    failpoint("migrate.before-rename")
    os.replace(new, path)
    failpoint("migrate.after-rename")
    sync_folder(path.parent)
    log.info("state.db is now of version %d, it was %d", VERSION, found)


def _step(db: sqlite3.Connection, found: int) -> None:
    """From version `found` to ours, as one transaction."""
    script = "".join(STEPS[found:])
    db.executescript(f"begin;{script};pragma user_version={VERSION};commit;")


def _finish(path: Path) -> None:
    """Removes what a migration that was killed has left."""
    for end in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}.new{end}").unlink(missing_ok=True)


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    """Whether it is the file that is at fault, not a full disk or the like. What quick_check finds has no code."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
