"""What the state remembers, as maps: files' sha256s by identity; by model its pin and the last look for a newer one.

A record that can not be read or kept costs a file hashed again, or a hub asked again; nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, MutableMapping
from typing import Generic, TypeVar

import msgspec

from offgridd.core.observed import Identity
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")
T = TypeVar("T")


class Inventory(MutableMapping[Identity, str]):
    """Which files were hashed, by identity. Where that can not be read or kept, a file is hashed again."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __getitem__(self, key: Identity) -> str:
        query = "select sha256 from inventory where dev=? and inode=? and size=? and mtime_ns=?"
        try:
            row = self._db.execute(query, _columns(key)).fetchone()
        except sqlite3.Error as error:
            log.warning("cannot read which files were hashed: %s; hashing again", error)
            row = None
        if row is None:
            raise KeyError(key)
        return str(row[0])

    def __setitem__(self, key: Identity, value: str) -> None:
        failpoint("inventory.before-write")
        try:
            self._db.execute("insert or replace into inventory values (?, ?, ?, ?, ?)", (*_columns(key), value))
        except sqlite3.Error as error:
            log.warning("cannot keep that a file was hashed: %s; it will be hashed again", error)

    def __delitem__(self, key: Identity) -> None:
        query = "delete from inventory where dev=? and inode=? and size=? and mtime_ns=?"
        try:
            found = self._db.execute(query, _columns(key)).rowcount
        except sqlite3.Error as error:
            log.warning("cannot forget that a file was hashed: %s", error)
            return
        if found == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[Identity]:
        rows = self._db.execute("select dev, inode, size, mtime_ns from inventory").fetchall()
        return (Identity(*map(int, row)) for row in rows)

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from inventory").fetchone()[0])


class Records(Generic[T]):
    """One thing of `kind` for each model, in the table `table`. What can not be read is as if it were not there.

    `about` says for people what it is.
    """

    def __init__(self, db: sqlite3.Connection, table: str, kind: type[T], about: str) -> None:
        self._db, self._table, self._kind, self._about = db, table, kind, about

    def get(self, model: str) -> T | None:
        return next(iter(self._read(" where model=?", model).values()), None)

    def all(self) -> dict[str, T]:
        return self._read("")

    def keep(self, model: str, value: T) -> bool:
        """Whether it is kept."""
        failpoint("records.before-write")
        text = msgspec.json.encode(value).decode()
        return self._write(f"insert or replace into {self._table} values (?, ?)", model, text)

    def drop(self, model: str) -> None:
        self._write(f"delete from {self._table} where model=?", model)

    def _write(self, sql: str, *values: str) -> bool:
        try:
            self._db.execute(sql, values)
        except sqlite3.Error as error:
            log.warning("cannot keep %s of %s: %s", self._about, values[0], error)
            return False
        return True

    def _read(self, where: str, *values: str) -> dict[str, T]:
        found: dict[str, T] = {}
        try:
            for model, text in self._db.execute(f"select * from {self._table}{where}", values).fetchall():
                try:
                    found[model] = msgspec.json.decode(text, type=self._kind)
                except (msgspec.MsgspecError, TypeError) as error:
                    log.warning("cannot read %s of %s: %s", self._about, model, error)
        except sqlite3.Error as error:
            log.warning("cannot read %s of models: %s", self._about, error)
        return found


def _columns(key: Identity) -> tuple[str, str, str, str]:
    return str(key.dev), str(key.inode), str(key.size), str(key.mtime_ns)
