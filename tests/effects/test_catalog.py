"""The catalogue: what is kept is found, in order, and a broken file is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridd.core.search import Hit, Query, matches, ordered
from offgridd.core.variants import RepoFile
from offgridd.effects.catalog import Catalog

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
    known = catalog.known(["acme/Other", HIT.id, "acme/None"])
    assert [one["hit"]["id"] for one in known] == ["acme/Other", HIT.id]
    other = Catalog(tmp_path / "other.db")
    other.keep([replace(HIT, downloads=9)], 50.0)
    bad = [7, {}, {"hit": {}, "seen": 1}, {"hit": {**known[0]["hit"], "id": "../x"}, "seen": 1}]
    other.take([*bad, *known])
    assert {h.id: (h.downloads, seen) for h, seen in other.find(Query())} == {
        HIT.id: (9, 50.0),
        "acme/Other": (5, 100.0),
    }


hits = st.builds(
    Hit,
    st.from_regex(r"[a-cA-C]{1,3}/[a-cA-C_%'\"-]{1,6}", fullmatch=True),
    st.integers(0, 5), st.integers(0, 5), st.sampled_from(["2023", "2024"]), st.sampled_from(["2023", "2024"]),
    st.sampled_from(["false", "auto"]), st.none(), st.sampled_from(["chat", "vision", None]), st.just("c"),
    st.just((RepoFile("x-Q8_0.gguf", 3),)), st.floats(0, 5),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.lists(hits, unique_by=lambda h: h.id, max_size=30),
    st.from_regex(r"[a-c_%'\"*-]{0,4}( [a-c]{1,3})?", fullmatch=True),
    st.sampled_from([None, "a", "AB"]),
    st.sampled_from(["downloads", "likes", "modified", "created"]),
    st.booleans(),
    st.sampled_from([None, "chat"]),
)
def test_it_finds_what_the_rules_say_in_their_order(tmp_path_factory, found, text, author, sort, gated, kind) -> None:  # type: ignore[no-untyped-def]
    catalog = Catalog(tmp_path_factory.mktemp("c") / "catalog.db")
    query = Query(text, author, sort=sort, gated=gated, kind=kind)
    catalog.keep(found, 1.0)
    assert [hit for hit, _ in catalog.find(query)] == ordered((h for h in found if matches(h, query)), query)
    catalog.close()


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


def test_where_it_can_not_be_kept_it_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    catalog = Catalog(tmp_path / "cache" / "catalog.db")
    catalog.keep([HIT], 1.0)
    assert list(catalog.find(Query())) == []


def test_it_does_not_grow_without_end(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offgridd.effects.catalog.MOST", 400_000)
    for i in range(40):
        catalog.keep([replace(HIT, id=f"acme/model-{i}-{n}") for n in range(100)], float(i))
    assert 100 <= catalog.count() < 3000
    assert catalog.count() == len(list(catalog.find(Query())))
    assert not list(catalog.find(Query("model-0-")))
    assert list(catalog.find(Query("model-39-")))
