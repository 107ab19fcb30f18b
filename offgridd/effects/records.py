"""What the state remembers of files, as maps: their sha256s by identity, and what sources were pinned to.

A record that can not be read or kept costs a file hashed again, or a hub asked again; nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, MutableMapping

import msgspec

from offgridd.core.observed import Identity, Pin
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


class Pins(MutableMapping[str, Pin]):
    """What the hub's sources were found to mean, by model. Where that can not be read or kept, a hub is asked again."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __getitem__(self, key: str) -> Pin:
        try:
            row = self._db.execute("select pin from pins where model=?", (key,)).fetchone()
            if row is None:
                raise KeyError(key)
            return msgspec.json.decode(row[0], type=Pin)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            log.warning("cannot read what %s was pinned to: %s; asking again", key, error)
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Pin) -> None:
        failpoint("pins.before-write")
        try:
            self._db.execute("insert or replace into pins values (?, ?)", (key, msgspec.json.encode(value).decode()))
        except sqlite3.Error as error:
            log.warning("cannot keep what %s is pinned to: %s", key, error)

    def __delitem__(self, key: str) -> None:
        if self._db.execute("delete from pins where model=?", (key,)).rowcount == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self._db.execute("select model from pins").fetchall())

    def __len__(self) -> int:
        return int(self._db.execute("select count(*) from pins").fetchone()[0])


def _columns(key: Identity) -> tuple[str, str, str, str]:
    return str(key.dev), str(key.inode), str(key.size), str(key.mtime_ns)
