"""What searches brought, kept for the day without a hub: SQLite with a trigram index over the ids.

It lives in the cache: what is broken is thrown away and begun anew. Blocking; for any thread.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from offgridd.core.hub import is_path, is_repo
from offgridd.core.search import Hit, Query
from offgridd.core.variants import RepoFile, sort_files

log = logging.getLogger("offgridd")
MOST = 512 << 20  # bytes; the oldest unseen go first
_SHORT = 3  # letters that a trigram needs
_BATCH = 200  # rows that are read at once
_VERSION = 1
_SCHEMA = """
create table models (
    row integer primary key, id text unique, author text, downloads integer, likes integer, created text,
    modified text, gated text, license text, kind text, hash text, trending real, files text, quants text, seen real);
create index by_author on models (author);
create index by_downloads on models (downloads desc, id);
create virtual table names using fts5 (id, content='models', content_rowid='row', tokenize='trigram');
create trigger added after insert on models begin insert into names (rowid, id) values (new.row, new.id); end;
create trigger removed after delete on models begin
    insert into names (names, rowid, id) values ('delete', old.row, old.id); end;
"""
_ORDERS = {"downloads": "downloads desc, id", "likes": "likes desc, id", "modified": "modified desc, id",
           "created": "created desc, id", "trending": "trending desc, downloads desc, id",
           "relevance": "length(id), downloads desc, id"}  # fmt: skip
_COLUMNS = ("id", "author", "downloads", "likes", "created", "modified", "gated", "license", "kind", "hash",
            "trending", "files", "quants", "seen")  # fmt: skip
_SHOWN = ", ".join(name for name in _COLUMNS if name not in ("author", "quants"))
_RENEW = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "files")
# Sizes that are known of a commit stay when it is seen again without them.
_RENEW += """, files = case when models.hash = excluded.hash and instr(models.files, ',null]') = 0
    and instr(excluded.files, ',null]') then models.files else excluded.files end"""
_MARKS = ", ".join("?" * len(_COLUMNS))
_KEEP = f"insert into models ({', '.join(_COLUMNS)}) values ({_MARKS}) on conflict (id) do update set {_RENEW}"


class Catalog:
    def __init__(self, path: Path) -> None:
        """Opened when it is first used."""
        self._path, self._lock = path, threading.Lock()
        self._db: sqlite3.Connection | None = None

    def keep(self, hits: Iterable[Hit], now: float) -> None:
        """Adds or renews them, at `now` (seconds since the epoch). What can not be kept is not kept."""
        rows = [_row(hit, now) for hit in hits]
        with self._lock, self._trouble():
            db = self._open()
            with db:
                db.execute("begin immediate")
                db.executemany(_KEEP, rows)
            self._shrink(db)

    def find(self, query: Query) -> Iterator[tuple[Hit, float]]:
        """What matches, in the query's order, with when it was seen last; sizes are for the caller to look at."""
        where, values = _where(query)
        sql = f"select {_SHOWN} from models{where} order by {_ORDERS[query.sort]} limit ? offset ?"
        at = 0
        while True:
            rows = self._rows(sql, (*values, _BATCH, at))
            yield from (_hit(row) for row in rows)
            at += _BATCH
            if len(rows) < _BATCH:
                return

    def files(self, model: str, commit: str) -> tuple[RepoFile, ...] | None:
        """The files with their sizes, where that commit's are known."""
        if not commit:
            return None
        rows = self._rows("select files from models where id=? and hash=?", (model, commit))
        found = _files(rows[0][0]) if rows else ()
        return found if found and all(f.size is not None for f in found) else None

    def known(self, ids: Sequence[str]) -> tuple[Any, ...]:
        """The models of these ids, as plain data that `take` reads."""
        marks = ", ".join("?" * len(ids))
        rows = self._rows(f"select {_SHOWN} from models where id in ({marks}) order by id", tuple(ids))
        return tuple({"hit": msgspec.to_builtins(hit), "seen": seen} for hit, seen in map(_hit, rows))

    def take(self, known: Iterable[Any]) -> None:
        """Adds what another catalogue knew; what is no model is left out, and so is what is known better here."""
        for one in known:
            try:
                hit, seen = msgspec.convert(one["hit"], Hit), float(one["seen"])
            except (msgspec.MsgspecError, TypeError, KeyError, ValueError):
                continue
            if is_repo(hit.id) and all(is_path(f.path) for f in hit.files) and not self.known([hit.id]):
                self.keep([hit], min(seen, time.time()))

    def count(self) -> int:
        rows = self._rows("select count(*) from models", ())
        return int(rows[0][0]) if rows else 0

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock, self._trouble():
            return self._open().execute(sql, values).fetchall()
        return []

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                db.execute("pragma journal_mode=wal")
                db.execute("pragma synchronous=normal")
                version = db.execute("pragma user_version").fetchone()[0]
                if version == 0:
                    db.executescript(f"begin; {_SCHEMA} pragma user_version={_VERSION}; commit;")
                elif version != _VERSION:
                    raise sqlite3.DatabaseError("it is of another version")
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """A cache that can not be used is none; one that is broken is removed."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            log.warning("cannot use the catalogue %s: %s; going on without", self._path, error)
            if self._db is not None:
                self._db.close()
                self._db = None
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                for end in ("", "-wal", "-shm"):
                    Path(f"{self._path}{end}").unlink(missing_ok=True)

    def _shrink(self, db: sqlite3.Connection) -> None:
        size = db.execute("pragma page_size").fetchone()[0]
        oldest = "select row from models order by seen limit (select count(*) / 10 + 1 from models)"
        while True:
            pages, free = (db.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
            if (pages - free) * size <= MOST or not db.execute("select 1 from models").fetchone():
                return
            db.execute(f"delete from models where row in ({oldest})")


def _where(query: Query) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    long = [word for word in query.words if len(word) >= _SHORT]
    if long:
        parts.append("row in (select rowid from names where names match ?)")
        values.append(" ".join('"' + word.replace('"', '""') + '"' for word in long))
    for word in query.words:
        if len(word) < _SHORT:
            parts.append("instr(lower(id), ?)")
            values.append(word)
    if query.author is not None:
        parts.append("author = ?")
        values.append(query.author.lower())
    if not query.gated:
        parts.append("gated = 'false'")
    if query.kind is not None:
        parts.append("kind = ?")
        values.append(query.kind)
    named = [q.upper() for q in query.quants if q.lower() != "auto"]
    if named and len(named) == len(query.quants):
        parts.append("(" + " or ".join("instr(quants, ?)" for _ in named) + ")")
        values += [f" {name} " for name in named]
    return (" where " + " and ".join(parts) if parts else ""), values


def _row(hit: Hit, now: float) -> tuple[Any, ...]:
    quants = [v.quant for v in sort_files(hit.files).variants if v.quant is not None]
    names = {name for q in quants for name in (q.name, q.token, q.name.removeprefix("UD-"))}
    files = msgspec.json.encode([[f.path, f.size] for f in hit.files]).decode()
    return (hit.id, hit.author.lower(), hit.downloads, hit.likes, hit.created_at, hit.last_modified, hit.gated,
            hit.license, hit.kind, hit.commit, hit.trending, files, f" {' '.join(sorted(names))} ", now)  # fmt: skip


def _files(data: str) -> tuple[RepoFile, ...]:
    return tuple(RepoFile(*pair) for pair in msgspec.json.decode(data, type=list[tuple[str, int | None]]))


def _hit(row: tuple[Any, ...]) -> tuple[Hit, float]:
    model, downloads, likes, created, modified, gated, license_, kind, commit, trending, files, seen = row
    return Hit(model, downloads, likes, created, modified, gated, license_, kind, commit, _files(files), trending), seen
