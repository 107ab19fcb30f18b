"""The catalogue: what is kept is found, in order, and a broken file is none."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridd.core.search import SORTS, Hit, Query, Sort, matches, ordered
from offgridd.core.variants import RepoFile
from offgridd.effects.catalog import Catalog, ask
from offgridd.effects.catalog.database import Database

HIT = Hit("acme/Tiny-GGUF", 5, 1, "2024", "2025", "false", "mit", "chat", "c" * 40, (RepoFile("t-Q8_0.gguf", 9),), 1.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "cache" / "catalog.db")


def test_what_is_kept_is_found_as_it_was_and_renewed(catalog: Catalog) -> None:
    catalog.keep([HIT], 100.0)
    assert list(catalog.find(Query())) == [(HIT, 100.0)]
    newer = replace(HIT, downloads=6, commit="d" * 40)
    catalog.keep([newer], 200.0)
    assert list(catalog.find(Query("tiny"))) == [(newer, 200.0)]
    assert catalog.files(HIT.id, "d" * 40) == HIT.files
    assert catalog.files(HIT.id, "c" * 40) is None
    catalog.keep([replace(newer, files=(RepoFile("t-Q8_0.gguf"),))], 300.0)
    assert catalog.files(HIT.id, "d" * 40) == HIT.files  # what is known of a commit stays
    catalog.keep([replace(newer, commit="e" * 40, files=(RepoFile("t-Q8_0.gguf"),))], 300.0)
    assert catalog.files(HIT.id, "e" * 40) is None


def test_another_catalogue_is_taken_over_and_what_is_no_model_is_not(catalog: Catalog, tmp_path: Path) -> None:
    catalog.keep([HIT, replace(HIT, id="acme/Other")], 100.0)
    known = catalog.extract(["acme/Other", HIT.id, "acme/None"])
    assert [one["hit"]["id"] for one in known] == ["acme/Other", HIT.id]
    other = Catalog(tmp_path / "other.db")
    other.keep([replace(HIT, downloads=9)], 50.0)
    bad = [7, {}, {"hit": {}, "seen": 1}, {"hit": {**known[0]["hit"], "id": "../x"}, "seen": 1}]
    bad += [{"hit": {**known[0]["hit"], "license": "\ud800"}, "seen": 1}, {**known[0], "seen": 10**400}]
    other.take([*bad, *known])
    assert {h.id: (h.downloads, seen) for h, seen in other.find(Query())} == {
        HIT.id: (9, 50.0),
        "acme/Other": (5, 100.0),
    }


hits = st.builds(
    Hit,
    st.from_regex(r"[a-cA-C]{1,3}/[a-cA-C_%'\".-]{1,8}", fullmatch=True),
    st.integers(0, 5), st.integers(0, 5), st.sampled_from(["2023", "2024"]), st.sampled_from(["2023", "2024"]),
    st.sampled_from(["false", "auto"]), st.none(), st.sampled_from(["chat", "vision", None]), st.just("c"),
    st.sampled_from([(RepoFile("x-Q8_0.gguf", 3),), (RepoFile("x-Q4_K_M.gguf"), RepoFile("x-Q8_0.gguf"))]),
    st.sampled_from([0.0, 0.5, 2.0]),
)  # fmt: skip
queries = st.builds(
    Query,
    st.from_regex(r"[a-cA-C_%'\"*.-]{0,4}( [a-cA-C.-]{1,4}){0,2}", fullmatch=True),
    st.sampled_from([None, "a", "AB"]),
    st.sampled_from([(), ("q4_k_m",), ("Q8_0", "auto")]),
    sort=st.sampled_from(SORTS), limit=st.integers(1, 5), gated=st.booleans(), kind=st.sampled_from([None, "chat"]),
)  # fmt: skip


def meant(found: list[Hit], query: Query) -> list[Hit]:
    """What the rules say: by the pure functions alone."""
    named = query.quants == ("q4_k_m",)
    return ordered((h for h in found if matches(h, query) and (not named or len(h.files) == 2)), query)


@settings(deadline=None, max_examples=150)
@given(st.lists(hits, unique_by=lambda h: h.id, max_size=30), queries, st.sampled_from([0, 3, 1000]), st.integers(1, 9))
def test_it_finds_what_the_rules_say_in_their_order(tmp_path_factory, found, query, few, front) -> None:  # type: ignore[no-untyped-def]
    """By whichever way: a few rows by their words, the front of the order, all rows."""
    catalog = Catalog(tmp_path_factory.mktemp("c") / "catalog.db")
    catalog.keep(found, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ask, "FEW", few)
        patch.setattr(ask, "MANY", 2 * few)
        patch.setattr(ask, "FRONT", front)
        patch.setattr("offgridd.effects.catalog.catalog.SPARE", 0)
        assert [hit for hit, _ in catalog.find(query)] == meant(found, query)
        assert [hit for hit, _ in catalog.find(query, 3)] == meant(found, query)[:3]
    catalog.close()


@pytest.mark.parametrize(
    "text",
    ["a", "ab", "%", "_", "%%%", "___", "a%c", '"', '"""', "'", "''; drop table models", "\0", "abc\0def", "a\0",
     "\0abc", "abc*", "abc OR xyz", "abc AND", "NOT abc", "abc NEAR xyz", "^abc", "lower:abc", "(abc", "abc)", "{abc}",
     "-abc", "+abc", "\\", "\N{KELVIN SIGN}ar", "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}stanbul", "straße", "ÄÖÜ",
     "\u6a21\u578b", "\u6a21\u578b\u6a21\u578b", "\N{GRINNING FACE}", "a\N{COMBINING ACUTE ACCENT}bc", "\ud800",
     "abc\udfff", "\N{ZERO WIDTH SPACE}", "\x1b[31m", "a" * 256, "a b " * 64, "- _ . -", "",
     " ".join(chr(0x4E00 + n) for n in range(128)), " ".join(f"{chr(97 + n % 26)}-" for n in range(80))],
)  # fmt: skip
@pytest.mark.parametrize("sort", ["downloads", "relevance"])
def test_no_text_is_an_error_or_finds_what_it_should_not(full: Catalog, text: str, sort: Sort) -> None:
    for query in (Query(text, sort=sort), Query(f"{text} gguf", sort=sort), Query(author=text), Query(quants=(text,))):
        if query.quants:
            assert list(full.find(query)) == []
        else:
            assert [h for h, _ in full.find(query)] == meant(ODD, query), query


ODD = [
    replace(HIT, id=f"acme/{name}")
    for name in ("abc-def-GGUF", "Kar-GGUF", "a%c", "a_c", "x.y-GGUF", "b-GGUF", "stra-e")
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    made = Catalog(tmp_path_factory.mktemp("full") / "catalog.db")
    made.keep(ODD, 1.0)
    yield made
    assert made.count() == len(ODD)
    made.close()


def test_sizes_that_surely_do_not_fit_are_passed_over(catalog: Catalog) -> None:
    small = replace(HIT, id="a/small", files=(RepoFile("x-Q4_0.gguf", 5), RepoFile("x-Q8_0.gguf", 9)))
    unknown = replace(HIT, id="a/unknown", files=(RepoFile("x-Q4_0.gguf"),))
    catalog.keep([small, unknown], 1.0)
    for query, found in {
        Query(max_size=4): 0,
        Query(max_size=5): 1,
        Query(min_size=9): 1,
        Query(min_size=10): 0,
    }.items():
        assert len(list(catalog.find(query))) == found, query
    assert catalog.known().sized == 1


def test_a_quant_is_found_by_its_names(catalog: Catalog) -> None:
    files = (RepoFile("a-Q4_K.gguf", 1), RepoFile("a-UD-Q2_K_XL.gguf", 1))
    catalog.keep([replace(HIT, files=files)], 1.0)
    for name, there in {"q4_k": 1, "Q4_K_M": 1, "Q2_K_XL": 1, "UD-Q2_K_XL": 1, "Q4_0": 0, "Q2_K": 0}.items():
        assert len(list(catalog.find(Query(quants=(name,))))) == there, name
    assert len(list(catalog.find(Query(quants=("Q4_0", "auto"))))) == 1


def test_a_broken_file_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"no database" * 1000)
    catalog = Catalog(path)
    assert list(catalog.find(Query())) == []
    catalog.keep([HIT], 1.0)
    assert catalog.count() == 1


def test_a_file_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("create table models (row integer primary key); pragma user_version=1")
    catalog = Catalog(path)
    catalog.keep([HIT], 1.0)
    catalog.keep([HIT], 1.0)
    assert catalog.count() == 1


@pytest.mark.parametrize("at", [0, 4096, 8192, 40_000, 100_000])
def test_a_file_that_breaks_while_it_is_open_is_an_empty_one_at_worst(tmp_path: Path, at: int) -> None:
    path = tmp_path / "catalog.db"
    catalog = Catalog(path)
    catalog.keep([replace(HIT, id=f"acme/m{n}") for n in range(2000)], 1.0)
    catalog.close()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(20_000))
    again = Catalog(path)
    for query in (Query(), Query("m19"), Query("acme", sort="relevance"), Query(author="acme", sort="likes")):
        list(again.find(query))
    for _ in range(3):  # what is broken is seen and removed at the latest when it is written
        again.keep([replace(HIT, id=f"acme/m{n}", downloads=7) for n in range(2000)], 2.0)
    list(again.find(Query("m1", sort="relevance")))
    again.keep([replace(HIT, id="acme/new")], 3.0)
    assert [h.id for h, _ in again.find(Query("new"))] in (["acme/new"], [])


@pytest.mark.parametrize(
    "change",
    ["update models set downloads = 'x'", "update models set gated = 'perhaps'", "update models set seen = null",
     "update files set files = '[['", "update files set files = '[[1, 2]]'", "update files set files = x'ff'",
     "update models set id = x'ff00'", "update models set id = cast(x'ff' as text)", "drop table files",
     "update models set lower = 'zzz'", "update models set kind = 7", "delete from files"],
)  # fmt: skip
def test_rows_that_rotted_are_no_error(tmp_path: Path, change: str) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.keep([HIT], 1.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as db:
        db.execute(change)
        db.commit()
    for query in (Query(), Query("tiny"), Query("zzz", sort="relevance")):
        assert all(hit.id == HIT.id for hit, _ in catalog.find(query))
    catalog.files(HIT.id, HIT.commit)
    catalog.known()


def test_it_is_removed_only_when_nobody_reads_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", "create table t (n integer);", 1)
    database.write(lambda db: db.execute("insert into t values (1)"))
    with database._connection() as reader:

        def fail(_: sqlite3.Connection) -> None:
            raise sqlite3.DatabaseError("malformed")

        database.write(fail)
        assert database.read("select * from t") == []  # no new one beside the old
        assert reader.execute("select n from t").fetchall() == [(1,)]
    assert database.read("select * from t") == []
    database.write(lambda db: db.execute("insert into t values (2)"))
    assert database.read("select n from t") == [(2,)]
    database.close()


def test_many_read_while_one_writes(catalog: Catalog) -> None:
    catalog.keep([replace(HIT, id=f"acme/m{n}") for n in range(500)], 1.0)
    wrong: list[object] = []

    def read() -> None:
        for n in range(60):
            found = [h.id for h, _ in catalog.find(Query(f"m{n}", limit=1), 1)]
            if len(found) != 1 or f"m{n}" not in found[0]:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for thread in readers:
        thread.start()
    for n in range(20):
        catalog.keep([replace(HIT, id=f"acme/m{m}", downloads=n) for m in range(500)], float(n))
    for thread in readers:
        thread.join()
    assert not wrong


def test_where_it_can_not_be_kept_it_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    catalog = Catalog(tmp_path / "cache" / "catalog.db")
    catalog.keep([HIT], 1.0)
    assert list(catalog.find(Query())) == []


def test_it_does_not_grow_without_end(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offgridd.effects.catalog.catalog.MOST", (48 << 20) + 800_000)
    for i in range(40):
        catalog.keep([replace(HIT, id=f"acme/model-{i}-{n}") for n in range(100)], float(i))
    assert 100 <= catalog.count() < 3000
    assert catalog.count() == len(list(catalog.find(Query())))
    assert not list(catalog.find(Query("model-0-")))
    assert list(catalog.find(Query("model-39-")))


def test_numbers_that_no_database_holds_are_not_kept(catalog: Catalog) -> None:
    assert not catalog.keep([HIT, replace(HIT, id="acme/huge", downloads=1 << 70)], 1.0)
    assert catalog.keep([HIT], 1.0)
    assert catalog.count() == 1
