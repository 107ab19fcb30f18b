"""What a request for vectors or for a ranking may say, and what its answer looks like."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from offgridd.api.embeddings import check_dimensions, encoded, parse_embeddings
from offgridd.api.rerank import parse_rerank, ranked
from offgridd.api.vectors import MOST_TEXTS, Made
from offgridd.core.desired import FileSource, ModelSpec
from offgridd.core.errors import RequestRefused

EMBED: dict[str, Any] = {"model": "m", "input": "hi"}
RERANK: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ["m"]}, "model"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": 1.5}, "input"),
        ({"input": True}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": ["a", ["b"]]}, "input[1]"),
        ({"input": [None]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a"] * (MOST_TEXTS + 1)}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"encoding_format": 1}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1.0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"truncate": True}, "truncate"),
    ],
)
def test_a_bad_value_names_its_parameter(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_embeddings({**EMBED, **change})
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("value", [[1, 2], [[1, 2], [3]], 7, [[9906, 1917]]])
def test_token_ids_are_refused_with_what_langchain_needs(value: Any) -> None:
    with pytest.raises(RequestRefused, match="check_embedding_ctx_length=False") as caught:
        parse_embeddings({**EMBED, "input": value})
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_what_clients_send_is_taken() -> None:
    more = {"encoding_format": "base64", "user": "u", "dimensions": None}
    made = parse_embeddings({**EMBED, "input": ["a", "b"], **more})
    assert (made.inputs, made.base64, made.dimensions) == (("a", "b"), True, None)
    assert parse_embeddings({**EMBED, "input": ["a"] * MOST_TEXTS}).inputs == ("a",) * MOST_TEXTS


def test_dimensions_are_those_that_are_declared() -> None:
    spec = ModelSpec("m", FileSource("/m.gguf"))
    check_dimensions(spec, None)
    with pytest.raises(RequestRefused, match=r"dimensions: \[\.\.\]"):
        check_dimensions(spec, 64)
    cut = ModelSpec("m", FileSource("/m.gguf"), dimensions=(64, 128))
    check_dimensions(cut, 64)
    with pytest.raises(RequestRefused, match="64, 128") as caught:
        check_dimensions(cut, 65)
    assert (caught.value.status, caught.value.param) == (400, "dimensions")


def test_floats_and_base64_say_the_same() -> None:
    vectors = [[0.1, -0.25, 1e-20], [0.0, 3.5, -1.0]]
    made = Made([struct.pack("<3f", *one) for one in vectors], 7)
    found = json.loads(encoded("m", made, as_base64=False))
    assert (found["object"], found["model"]) == ("list", "m")
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [item["index"] for item in found["data"]] == [0, 1]
    for item, wanted in zip(found["data"], vectors, strict=True):
        assert item["object"] == "embedding"
        assert item["embedding"] == pytest.approx(wanted, rel=1e-6)
    coded = json.loads(encoded("m", made, as_base64=True))
    for plain, item in zip(found["data"], coded["data"], strict=True):
        assert list(struct.unpack("<3f", base64.b64decode(item["embedding"]))) == plain["embedding"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"query": ""}, "query"),
        ({"query": ["q"]}, "query"),
        ({"documents": "a"}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": [{"txt": "a"}]}, "documents[0]"),
        ({"documents": [5]}, "documents[0]"),
        ({"documents": ["a"] * (MOST_TEXTS + 1)}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": True}, "top_n"),
        ({"return_documents": 1}, "return_documents"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"max_chunks_per_doc": 10}, "max_chunks_per_doc"),
    ],
)
def test_a_bad_value_of_a_ranking_names_its_parameter(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_rerank({**RERANK, **change})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_the_best_come_first() -> None:
    documents = ["a", {"text": "b"}, "c", "d"]
    asked = parse_rerank({**RERANK, "documents": documents, "top_n": 3, "return_documents": True})
    made = Made([struct.pack("<f", score) for score in (0.5, -2.0, 0.75, 0.5)], 12)
    found = ranked("m", asked, made)
    assert [(one["index"], one["relevance_score"]) for one in found["results"]] == [(2, 0.75), (0, 0.5), (3, 0.5)]
    assert [one["document"] for one in found["results"]] == [{"text": "c"}, {"text": "a"}, {"text": "d"}]
    assert found["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    plain = ranked("m", parse_rerank({**RERANK, "documents": documents, "top_n": 99}), made)
    assert len(plain["results"]) == 4
    assert "document" not in plain["results"][0]
