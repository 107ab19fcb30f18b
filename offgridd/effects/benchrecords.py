"""What was measured, kept in the state: results of this machine, and those that were brought from others.

An imported one is no result of this machine: only `listed` shows it, and never to those who ask for our own.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from offgridd.effects.benchformat import checked
from offgridd.effects.database import os_error
from offgridd.failpoints import failpoint

log = logging.getLogger("offgridd")
Record = dict[str, Any]
NEWEST = 4  # benchmarks of each model that are looked at when the daemon starts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of `model`, or of all; at most `limit`; with numbers below `before`; only our `own`; of this `load_key`."""

    model: str | None = None
    limit: int = 100
    before: int | None = None
    own: bool = False
    load_key: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """How many of the records that were imported are new, and how many were there."""

    added: int
    known: int


class Row(NamedTuple):
    """A record that was `checked`; `text` is all of it as JSON."""

    model: str
    load_key: str
    started: float
    uid: str
    text: str


class BenchmarkRecords:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def keep(self, model: str, record: Record) -> int:
        """Its number. Raises OSError."""
        row = (model, record["load_key"], record["started"], json.dumps(record), record["uid"])
        failpoint("benchmark.before-write")
        try:
            query = "insert into benchmarks (model, load_key, at, record, uid) values (?, ?, ?, ?, ?)"
            kept = self._db.execute(query, row)
        except sqlite3.Error as error:
            raise os_error(error) from error
        return int(kept.lastrowid or 0)

    def take(self, records: Iterable[Row]) -> Taken:
        """Keeps those that are not there yet, all or none of them. Raises OSError.

        In one statement: no transaction is held open on a connection that other threads write with, too.
        """
        rows = list(records)
        columns = ", ".join(f"json_extract(value, '$[{number}]')" for number in range(5))
        query = f"""
            insert into benchmarks (model, load_key, at, uid, record, imported)
            select {columns}, 1 from json_each(?) where true on conflict (uid) do nothing
        """
        failpoint("benchmark.before-import")
        try:
            added = self._db.execute(query, (msgspec.json.encode(rows).decode(),)).rowcount
        except sqlite3.Error as error:
            raise os_error(error) from error
        return Taken(added, len(rows) - added)

    def newest(self, model: str | None = None) -> dict[str, list[Record]]:
        """By model the newest ones of our own, the newest last; of one model, or of all."""
        ranked = "row_number() over (partition by model order by id desc) as age from benchmarks where imported = 0"
        ranked += " and model = ?" if model is not None else ""
        values = (*([model] if model is not None else []), NEWEST)
        rows = self._rows(f"where id in (select id from (select id, {ranked}) where age <= ?) order by id", values)
        found: dict[str, list[Record]] = {}
        for record in _readable(rows):
            found.setdefault(record["model"], []).append(record)
        return found

    def listed(self, wanted: Wanted) -> list[Record]:
        """With their numbers, the newest first; `imported` where they are. Also behind some that can not be read."""
        found: list[Record] = []
        before = wanted.before
        while len(found) < wanted.limit:
            asked = {"model = ?": wanted.model, "id < ?": before, "load_key = ?": wanted.load_key,
                     "imported = ?": 0 if wanted.own else None}  # fmt: skip
            asked = {sql: value for sql, value in asked.items() if value is not None}
            where = f"where {' and '.join(asked)}" if asked else ""
            rows = self._rows(f"{where} order by id desc limit ?", (*asked.values(), wanted.limit))
            found += _readable(rows)
            if len(rows) < wanted.limit:
                break
            before = rows[-1][0]
        return found[: wanted.limit]

    def _rows(self, rest: str, values: tuple[object, ...]) -> list[tuple[int, str, int, str]]:
        query = f"select id, uid, imported, record from benchmarks {rest}"
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            log.warning("cannot read earlier benchmarks: %s", error)
            return []


def _readable(rows: Iterable[tuple[int, str, int, str]]) -> list[Record]:
    found: list[Record] = []
    for number, uid, imported, text in rows:
        try:
            record = checked({**json.loads(text), "uid": uid})
        except (ValueError, TypeError, RecursionError) as error:
            log.warning("cannot read the benchmark with the number %s: %s; it is left out", number, error)
        else:
            found.append({"id": number, **record} | ({"imported": True} if imported else {}))
    return found
