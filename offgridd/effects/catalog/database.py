"""A SQLite file that is a cache: many read it at once, one writes, and what is broken is thrown away and begun anew.

Blocking; for any thread. SQLite's work holds neither Python's lock nor other readers up.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("offgridd")
IDLE = 4  # connections that are kept for the next readers
PAGES = 2048  # KiB of the file that a connection remembers
MOST_LOG = 16 << 20  # bytes that the write-ahead log keeps on disk when it is empty


class Database:
    """Opened when it is first used. A file of another version than `version` is begun anew, too."""

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self._path, self._schema, self._version = path, schema, version
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._used = 0
        self._made = self._broken = False

    def read(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """The rows; none where the file can not be used, which is logged."""
        with self._trouble(), self._connection() as db:
            return db.execute(sql, values).fetchall()
        return []

    def write(self, change: Callable[[sqlite3.Connection], None]) -> bool:
        """Runs `change`, one at a time. False where it can not be written, which is logged."""
        with self._writing, self._trouble(), self._connection() as db:
            change(db)
            return True
        return False

    def bytes(self) -> int:
        """What it takes on disk."""
        found = 0
        for path in self._paths():
            with contextlib.suppress(OSError):
                found += path.stat().st_size
        return found

    def close(self) -> None:
        """When nobody uses it."""
        with self._lock:
            self._close_idle()

    def _paths(self) -> list[Path]:
        return [Path(f"{self._path}{end}") for end in ("", "-wal", "-shm")]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One of those that are idle, or a new one."""
        with self._lock:
            if self._broken:
                raise sqlite3.OperationalError("it is broken, and still in use elsewhere")
            db = self._idle.pop() if self._idle else self._open()
            self._used += 1
        try:
            yield db
        except BaseException:
            db.close()  # it may be in the middle of something
            self._give_back(None)
            raise
        self._give_back(db)

    def _give_back(self, db: sqlite3.Connection | None) -> None:
        with self._lock:
            self._used -= 1
            if db is not None and (self._broken or len(self._idle) >= IDLE):
                db.close()
            elif db is not None:
                self._idle.append(db)
            self._remove_broken()

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"pragma cache_size=-{PAGES}")
            db.execute("pragma synchronous=normal")
            db.execute(f"pragma journal_size_limit={MOST_LOG}")
            db.execute("pragma temp_store=memory")
            if not self._made:
                self._make(db)
                self._made = True
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, db: sqlite3.Connection) -> None:
        db.execute("pragma journal_mode=wal")
        version = db.execute("pragma user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"begin; {self._schema} pragma user_version={self._version}; commit;")
        elif version != self._version:
            raise sqlite3.DatabaseError("it is of another version")

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            log.warning("cannot use the catalogue %s: %s; going on without", self._path, error)
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                with self._lock:
                    self._broken = True
                    self._remove_broken()

    def _remove_broken(self) -> None:
        """When nobody uses it any more: a connection to the old file that ends later would take the new one's log."""
        if not self._broken or self._used:
            return
        self._close_idle()
        try:
            for path in self._paths():
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove the broken catalogue %s: %s", self._path, error.strerror)
        self._broken = self._made = False

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
