"""A query -> SQL. What a query means is said in `core.search`; here it is only found fast.

The same rows can be come to in three ways: by the trigrams of a word or by the author, where those are of few; from
the front of the wanted order, where it has an index and many rows match; or by looking at every row. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from offgridd.core.search import Query

SCHEMA = """
create table models (
    row integer primary key, lower text, plain text, author text, gated text, kind text, quants integer, least integer,
    largest integer, downloads integer, likes integer, created text, modified text, trending real, seen real,
    id text unique, license text, hash text);
create table files (row integer primary key, files text);
create table quants (row integer primary key, names text unique);
create index by_author on models (author);
create index by_downloads on models (downloads desc, id);
create index by_likes on models (likes desc, id);
create index by_created on models (created desc, id);
create index by_modified on models (modified desc, id);
create index by_trending on models (trending desc, downloads desc, id);
create virtual table names using fts5 (lower, content='models', content_rowid='row', tokenize='trigram');
create trigger added after insert on models begin insert into names (rowid, lower) values (new.row, new.lower); end;
create trigger removed after delete on models begin
    insert into names (names, rowid, lower) values ('delete', old.row, old.lower);
    delete from files where row = old.row; end;
"""
VERSION = 2
FEW = 1000  # rows that are looked up one by one at once
MANY = 6000  # rows that are still faster looked up than found in a scan of tens of thousands
FRONT = 1000  # rows of the order that are looked at before all are
_TRIGRAM = 3  # letters
_ORDERS = {"downloads": "downloads desc, id", "likes": "likes desc, id", "modified": "modified desc, id",
           "created": "created desc, id", "trending": "trending desc, downloads desc, id"}  # fmt: skip
_NAME = "substr(lower, instr(lower, '/') + 1)"
_SEPARATORS = frozenset("-_.")

_NO_WALK = "not indexed"  # along the order: to fetch each row by itself takes many times as long as a scan
Values = tuple[Any, ...]
Sql = tuple[str, Values]


@dataclass(frozen=True, slots=True)
class Asked:
    """`where` and `order` with their values; `few`: ways to the rows that are good where they are few."""

    where: str
    values: Values
    order: str
    order_values: Values
    few: tuple[Sql, ...]
    indexed: bool  # whether the order has an index

    def of(self, way: Sql, limit: int) -> Sql:
        """The rows of a way that match, in order."""
        sql = (
            f"select row from models {_NO_WALK} where row in ({way[0]}) and {self.where} order by {self.order} limit ?"
        )
        return sql, (*way[1], *self.values, *self.order_values, limit)

    def front(self, limit: int) -> Sql:
        """The first in order that match; where there are fewer than `limit`, others may follow later."""
        sql = f"select * from models order by {self.order} limit {FRONT}"
        return f"select row from ({sql}) where {self.where} order by {self.order} limit ?", (*self.values, limit)

    def scan(self, limit: int) -> Sql:
        sql = f"select row from models {_NO_WALK} where {self.where} order by {self.order} limit ?"
        return sql, (*self.values, *self.order_values, limit)


def ask(query: Query) -> Asked | None:
    """None where nothing can match: a word has half a character, as JSON may have."""
    if any("\ud800" <= c <= "\udfff" for c in query.text + (query.author or "") + "".join(query.quants)):
        return None
    where, values = _where(query)
    order, order_values = _order(query)
    return Asked(where, values, order, order_values, tuple(_few(query)), query.sort in _ORDERS)


def _few(query: Query) -> list[Sql]:
    ways: list[Sql] = []
    # Others the index would take for what they are not; `where` looks at all of them anyway.
    words = [w for w in query.words if len(w) >= _TRIGRAM and w.isascii() and w.isprintable()]
    if words:
        match = " ".join('"' + word.replace('"', '""') + '"' for word in words)
        ways.append(("select rowid from names where names match ?", (match,)))
    if query.author is not None:
        ways.append(("select row from models where author = ?", (query.author.lower(),)))
    return ways


def _where(query: Query) -> Sql:
    parts = ["1"]
    values: list[Any] = []
    for word in query.words:
        parts.append("instr(lower, ?)")
        values.append(word)
    if query.author is not None:
        parts.append("+author = ?")  # the + keeps its index out: that is a way of its own
        values.append(query.author.lower())
    if not query.gated:
        parts.append("gated = 'false'")
    if query.kind is not None:
        parts.append("kind = ?")
        values.append(query.kind)
    named = [q.upper() for q in query.quants if q.lower() != "auto"]
    if named and len(named) == len(query.quants):
        has = " or ".join("instr(names, ?)" for _ in named)
        parts.append(f"quants in (select row from quants where {has})")
        values += [f" {name} " for name in named]
    if query.max_size is not None:
        parts.append("least <= ?")
        values.append(query.max_size)
    if query.min_size is not None:
        parts.append("largest >= ?")
        values.append(query.min_size)
    return " and ".join(parts), tuple(values)


def _order(query: Query) -> Sql:
    if query.sort != "relevance":
        return _ORDERS[query.sort], ()
    # core.search's distance: words that are no whole part of the name, where the first stands, how long the name is.
    # `plain` is the name with each part between hyphens; a word with one is no part, and is looked for in the name.
    whole = [w for w in query.words if not _SEPARATORS & set(w)]
    missed = " + ".join("(instr(plain, ?) = 0)" for _ in whole)
    first = reduce(lambda a, b: f"min({a}, {b})", map(_place, query.words)) if query.words else "length(plain)"
    values = (*(f"-{word}-" for word in whole), *query.words)
    return ", ".join(filter(None, (missed, first, "length(plain)", "downloads desc", "id"))), values


def _place(word: str) -> str:
    """Where a word stands in `plain`; behind its end where it does not."""
    found = f"nullif(instr({_NAME}, ?), 0) + 1" if _SEPARATORS & set(word) else "nullif(instr(plain, ?), 0)"
    return f"ifnull({found}, length(plain))"
