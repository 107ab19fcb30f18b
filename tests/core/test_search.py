"""Queries, hits and their order, without a hub."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offgridd.core.search import Hit, Query, kind_of, matches, ordered, result
from offgridd.core.variants import RepoFile

GB = 10**9
HIT = Hit(
    "TheBloke/CodeLlama-7B-GGUF", 100, 10, "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z", "false", "llama2", "chat",
    "c" * 40, (RepoFile("x.Q4_K_M.gguf", 4 * GB), RepoFile("x.Q8_0.gguf", 8 * GB), RepoFile("README.md", 1)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query("code llama"), True),
        (Query("LLAMA thebloke"), True),
        (Query("code mistral"), False),
        (Query(author="thebloke"), True),
        (Query(author="the"), False),
        (Query(kind="chat"), True),
        (Query(kind="embedding"), False),
        (Query(gated=False), True),
    ],
)
def test_what_matches(query: Query, found: bool) -> None:
    assert matches(HIT, query) == found


def test_gated_ones_are_left_out_only_when_asked() -> None:
    gated = replace(HIT, gated="manual")
    assert matches(gated, Query())
    assert not matches(gated, Query(gated=False))


@pytest.mark.parametrize(
    ("query", "quant"),
    [
        (Query(), "Q4_K_M"),
        (Query(quants=("Q8_0",)), "Q8_0"),
        (Query(quants=("Q2_K", "Q8_0")), "Q8_0"),
        (Query(min_size=5 * GB), "Q8_0"),
        (Query(max_size=5 * GB), "Q4_K_M"),
        (Query(quants=("Q5_K_M",)), None),
        (Query(max_size=GB), None),
        (Query(min_size=9 * GB), None),
    ],
)
def test_the_variant_that_would_be_taken(query: Query, quant: str | None) -> None:
    found = result(HIT, query, None)
    assert (found.best.quant.name if found and found.best and found.best.quant else None) == quant
    assert found is None or found.why


def test_what_has_no_model_is_no_answer_and_what_can_not_be_loaded_is_one_without_a_choice() -> None:
    assert result(replace(HIT, files=(RepoFile("README.md", 1),)), Query(), None) is None
    found = result(replace(HIT, files=(RepoFile("x-IQ4_KS.gguf", GB),)), Query(), None)
    assert found is not None
    assert found.best is None
    assert "can not load" in found.why


def test_unknown_sizes_are_dropped_only_where_sizes_are_asked_for() -> None:
    unknown = replace(HIT, files=(RepoFile("x.Q4_K_M.gguf"),))
    assert result(unknown, Query(), None) is not None
    assert result(unknown, Query(max_size=100 * GB), None) is None
    assert result(unknown, Query(min_size=1), None) is None


def test_what_the_memory_can_not_hold() -> None:
    found = result(HIT, Query(), 2 * GB)
    assert found is not None
    assert found.fits == "no"
    assert result(HIT, Query(fits=True), 2 * GB) is None
    assert result(HIT, Query(fits=True), None) is not None


def test_orders() -> None:
    other = replace(HIT, id="a/Llama", downloads=5, likes=99, last_modified="2025", created_at="2020", trending=3.0)
    for sort, first in {"downloads": HIT, "likes": other, "modified": other, "created": HIT, "trending": other}.items():
        assert ordered([HIT, other], Query(sort=sort))[0] == first  # type: ignore[arg-type]
        assert ordered([other, HIT], Query(sort=sort))[0] == first  # type: ignore[arg-type]
    assert ordered([HIT, other], Query("llama", sort="relevance"))[0] == other


def test_kinds() -> None:
    assert kind_of("text-generation", ()) == "chat"
    assert kind_of("image-text-to-text", ("conversational",)) == "vision"
    assert kind_of("", ("x", "sentence-similarity")) == "embedding"
    assert kind_of("text-to-speech", ("gguf",)) is None
