"""Models of the hub in SQLite, with a trigram index over their names. Blocking; for any thread.

It lives in the cache: what can not be read is not known, and said in the log.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from offgridd.core.hub import is_path, is_repo
from offgridd.core.search import Hit, Query, matches
from offgridd.core.variants import RepoFile
from offgridd.effects.catalog import ask, rows
from offgridd.effects.catalog.database import Database

MOST = 512 << 20  # bytes on disk; the oldest unseen go first
_BESIDE = 48 << 20  # bytes of them for the log and for what is written before the oldest go
SPARE = 12  # models that are looked up beside those that are wanted: some may have no file that is asked for
_BATCH = 32  # models that are read at once
_ALL = 1 << 62
_INSERT = f"insert into models ({', '.join(rows.COLUMNS)}) values ({', '.join('?' * len(rows.COLUMNS))})"
_UPDATE = f"update models set {', '.join(f'{name} = ?' for name in rows.COLUMNS)} where row = ?"
_FILES = "insert into files (row, files) values (?, ?) on conflict (row) do update set files = excluded.files"


@dataclass(frozen=True, slots=True)
class Known:
    """`sized`: models whose files' sizes are known; `bytes` on disk; when was seen what is oldest and what is newest,
    in seconds since the epoch, None where it is empty.
    """

    models: int
    sized: int
    bytes: int
    oldest: float | None
    newest: float | None


class Catalog:
    def __init__(self, path: Path) -> None:
        """Opened when it is first used."""
        self._db = Database(path, ask.SCHEMA, ask.VERSION)

    def keep(self, hits: Iterable[Hit], now: float) -> bool:
        """Adds or renews them, at `now` (seconds since the epoch). False where they can not be kept."""
        made = [rows.row_of(hit, now) for hit in hits]

        def change(db: sqlite3.Connection) -> None:
            db.execute("begin immediate")
            for row in made:
                _keep(db, row)
            db.execute("commit")
            _shrink(db)

        return not made or self._db.write(change)

    def find(self, query: Query, most: int = _ALL) -> Iterator[tuple[Hit, float]]:
        """What matches, in the query's order, with when it was seen last, looking at `most` models at most.

        Of size limits only those are taken off that surely do not meet them: the rest is for the caller to look at.
        """
        asked = ask.ask(query)
        if asked is None:
            return
        seen: dict[int, None] = {}
        for limit in (min(query.limit + SPARE, most), most):  # the first are mostly enough
            found = self._rows(asked, limit)
            yield from self._hits([number for number in found if number not in seen], query)
            seen |= dict.fromkeys(found)
            if len(found) < limit or limit == most:
                return

    def files(self, model: str, commit: str) -> tuple[RepoFile, ...] | None:
        """The model's files with their sizes, where that commit's are known."""
        if not commit:
            return None
        found = self._db.read("select files from models join files using (row) where id=? and hash=?", (model, commit))
        files = rows.files_of(found[0][0]) if found else ()
        return files if files and all(f.size is not None for f in files) else None

    def extract(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """The models of these ids, as plain data that `take` reads."""
        marks = ", ".join("?" * len(ids))
        sql = f"select {rows.SHOWN} from models join files using (row) where id in ({marks}) order by id"
        found = filter(None, map(rows.hit_of, self._db.read(sql, tuple(ids))))
        return tuple({"hit": msgspec.to_builtins(hit), "seen": seen} for hit, seen in found)

    def take(self, extracted: Iterable[Any]) -> None:
        """Adds what another catalogue knew; what is no model is left out, and so is what is known here."""
        for one in extracted:
            try:
                hit, seen = msgspec.convert(one["hit"], Hit), float(one["seen"])
                msgspec.json.encode(hit)  # where a text has half a character, no database takes it
            except (msgspec.MsgspecError, TypeError, KeyError, ValueError, OverflowError):
                continue
            if is_repo(hit.id) and all(is_path(f.path) for f in hit.files) and not self.extract([hit.id]):
                self.keep([hit], min(seen, time.time()))

    def count(self) -> int:
        found = self._db.read("select count(*) from models")
        return int(found[0][0]) if found else 0

    def known(self) -> Known:
        found = self._db.read("select count(*), count(least), min(seen), max(seen) from models")
        models, sized, oldest, newest = found[0] if found else (0, 0, None, None)
        return Known(models, sized, self._db.bytes(), oldest, newest)

    def close(self) -> None:
        self._db.close()

    def _rows(self, asked: ask.Asked, limit: int) -> list[int]:
        """The numbers of the rows that match, in order."""
        way = self._way(asked, ask.FEW)
        if way is None and asked.indexed and limit < ask.FRONT:
            found = self._numbers(asked.front(limit))
            if len(found) == limit:
                return found
        way = way or self._way(asked, ask.MANY)
        return self._numbers(asked.of(way, limit) if way else asked.scan(limit))

    def _way(self, asked: ask.Asked, most: int) -> ask.Sql | None:
        """One that leads to fewer rows than that."""
        for way, values in asked.few:
            found = self._db.read(f"select count(*) from ({way} limit {most})", values)
            if found and found[0][0] < most:
                return way, values
        return None

    def _numbers(self, sql: ask.Sql) -> list[int]:
        return [row for (row,) in self._db.read(*sql)]

    def _hits(self, numbers: Sequence[int], query: Query) -> Iterator[tuple[Hit, float]]:
        left = iter(numbers)
        while batch := tuple(islice(left, _BATCH)):
            marks = ", ".join("?" * len(batch))
            sql = f"select row, {rows.SHOWN} from models join files using (row) where row in ({marks})"
            found = {number: shown for number, *shown in self._db.read(sql, batch)}
            for number in batch:
                one = rows.hit_of(found[number]) if number in found else None
                if one is not None and matches(one[0], query):  # it may be another one by now
                    yield one


def _keep(db: sqlite3.Connection, made: rows.Made) -> None:
    db.execute("insert or ignore into quants (names) values (?)", (made.quants,))
    quants = db.execute("select row from quants where names = ?", (made.quants,)).fetchone()[0]
    values = [*made.values, quants]
    old = db.execute("select row, hash, least, largest from models where id = ?", (made.id,)).fetchone()
    if old is None:
        row = db.execute(_INSERT, values).lastrowid
        db.execute(_FILES, (row, made.files))
        return
    row, commit, least, largest = old
    stays = commit == made.commit and least is not None and not made.sized
    if stays:  # what is known of a commit's sizes, when it is seen again without them
        values[rows.COLUMNS.index("least")], values[rows.COLUMNS.index("largest")] = least, largest
    db.execute(_UPDATE, (*values, row))
    if not stays:
        db.execute(_FILES, (row, made.files))


def _shrink(db: sqlite3.Connection) -> None:
    size = db.execute("pragma page_size").fetchone()[0]
    oldest = "select row from models order by seen limit (select count(*) / 10 + 1 from models)"
    while True:
        pages, free = (db.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        if (pages - free) * size <= MOST - _BESIDE or not db.execute("select 1 from models").fetchone():
            return
        db.execute(f"delete from models where row in ({oldest})")
        db.execute("delete from quants where row not in (select quants from models)")
