"""What the state remembers of files, as maps: their sha256s by identity, and what sources were pinned to.

A record that can not be read or kept costs a file hashed again, or a hub asked again; nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, MutableMapping

import msgspec

from offgridd.core.hub import Pin
from offgridd.core.observed import Identity
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")


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
        if self._db.execute(query, _columns(key)).rowcount == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[Identity]:
        rows = self._db.execute("select dev, inode, size, mtime_ns from inventory").fetchall()
        return (Identity(*map(int, row)) for row in rows)

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from inventory").fetchone()[0])


class Pins:
    """What the hub's sources were found to mean, by model. What can not be read is as if it were not there."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, model: str) -> Pin | None:
        return next(iter(self._read("select model, pin from pins where model=?", model).values()), None)

    def all(self) -> dict[str, Pin]:
        return self._read("select model, pin from pins")

    def keep(self, model: str, pin: Pin) -> bool:
        """Whether it is kept."""
        failpoint("pins.before-write")
        try:
            self._db.execute("insert or replace into pins values (?, ?)", (model, msgspec.json.encode(pin).decode()))
        except sqlite3.Error as error:
            log.warning("cannot keep what %s is pinned to: %s", model, error)
            return False
        return True

    def drop(self, model: str) -> None:
        try:
            self._db.execute("delete from pins where model=?", (model,))
        except sqlite3.Error as error:
            log.warning("cannot forget what %s was pinned to: %s", model, error)

    def _read(self, sql: str, *values: str) -> dict[str, Pin]:
        found: dict[str, Pin] = {}
        try:
            for model, text in self._db.execute(sql, values).fetchall():
                try:
                    found[model] = msgspec.json.decode(text, type=Pin)
                except (msgspec.MsgspecError, TypeError) as error:
                    log.warning("cannot read what %s was pinned to: %s", model, error)
        except sqlite3.Error as error:
            log.warning("cannot read what models were pinned to: %s", error)
        return found


def _columns(key: Identity) -> tuple[str, str, str, str]:
    return str(key.dev), str(key.inode), str(key.size), str(key.mtime_ns)
