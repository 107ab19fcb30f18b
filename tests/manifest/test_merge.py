"""conf.d: what a later file does to an earlier one, and where each value is said to come from."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.errors import ManifestError
from offgridd.manifest import SourceText, accept
from offgridd.manifest.merge import merge, origins
from offgridd.manifest.nodes import MapNode, plain
from offgridd.manifest.yamltext import load


def node(value: str | dict[str, object], name: str = "m.yaml") -> MapNode:
    return load(name, (value if isinstance(value, str) else json.dumps(value)).encode())


@pytest.mark.parametrize(
    ("base", "top", "merged"),
    [
        ("{a: 1}", "{b: 2}", {"a": 1, "b": 2}),
        ("{a: 1}", "{a: 2}", {"a": 2}),
        ("{a: {b: 1, c: 2}}", "{a: {c: 3, d: 4}}", {"a": {"b": 1, "c": 3, "d": 4}}),
        ("{a: [1, 2]}", "{a: [3]}", {"a": [3]}),
        ("{a: {b: 1}}", "{a: 5}", {"a": 5}),
        ("{a: 5}", "{a: {b: 1, c: ~}}", {"a": {"b": 1}}),
        ("{a: 1, b: 2}", "{a: ~}", {"b": 2}),
        ("{a: {b: 1, c: 2}}", "{a: {b: null}}", {"a": {"c": 2}}),
        ("{a: 1}", "{b: ~, c: {d: {e: ~}}}", {"a": 1, "c": {"d": {}}}),
        ("{a: ~}", "{}", {"a": None}),
        ("{a: ~}", "{a: 1}", {"a": 1}),
    ],
)
def test_overlay(base: str, top: str, merged: dict[str, object]) -> None:
    under, over = node(base), node(top)
    assert plain(merge(under, [over])) == merged
    assert plain(under) == plain(node(base))  # neither is changed
    assert plain(over) == plain(node(top))


def test_the_later_file_wins_and_an_alias_is_not_written_through() -> None:
    base = node("a: &x {b: 1}\nc: *x")
    assert plain(merge(base, [node("a: {b: 2}"), node("a: {b: 3}")])) == {"a": {"b": 3}, "c": {"b": 1}}


def test_origin_of_every_value() -> None:
    merged = merge(node("a:\n  b: 1\n  c: [1,\n      2]\ne: {}"), [node("a:\n\n  b: 2\n  d: x", "conf.d/10.yaml")])
    assert origins(merged) == {
        "a.b": "conf.d/10.yaml:3",
        "a.c": "m.yaml:3",
        "a.d": "conf.d/10.yaml:4",
        "e": "m.yaml:5",
    }


MAIN = SourceText(
    "m.yaml",
    b"apiVersion: offgridd/v1\nmodels:\n  a:\n    source: {file: /a}\n    context: 1\n  b: {source: {file: /b}}",
)


def test_fragments_change_models_and_need_no_version() -> None:
    first = SourceText("conf.d/10.yaml", b"models: {a: {context: 2, preload: false}, c: {source: {file: /c}}}")
    second = SourceText("conf.d/20.yaml", b"apiVersion: offgridd/v1\nmodels: {a: {preload: ~}, b: ~}")
    accepted = accept(MAIN, [first, second])
    assert list(accepted.desired.models) == ["a", "c"]
    assert accepted.desired.models["a"].load.context == 2
    assert accepted.desired.models["a"].preload
    assert accepted.origins["models.a.context"] == "conf.d/10.yaml:1"
    assert accepted.origins["models.a.source.file"] == "m.yaml:4"
    assert "models.a.preload" not in accepted.origins


@pytest.mark.parametrize(
    ("fragment", "reason", "line"),
    [
        ("models:\n  a:\n    context: x", "WrongType", 3),
        ("models:\n  b:\n    aliases: [a]", "DuplicateAlias", 3),
        ("\nmodles: {}", "UnknownField", 2),
        ("models:\n  a:\n    stop: [~]", "WrongType", 3),
        ("models:\n  a: [", "ParseError", None),
        ("apiVersion: offgridd/v2", "UnsupportedVersion", 1),
        ("# nothing yet", "Empty", 1),
        ("[]", "WrongType", 1),
    ],
)
def test_problems_name_the_fragment(fragment: str, reason: str, line: int | None) -> None:
    with pytest.raises(ManifestError) as caught:
        accept(MAIN, [SourceText("conf.d/10.yaml", fragment.encode())])
    (problem,) = caught.value.problems
    assert (problem.file, problem.reason) == ("conf.d/10.yaml", reason)
    assert line is None or problem.line == line


def test_deleting_all_models_is_not_declaring_none() -> None:
    with pytest.raises(ManifestError) as caught:
        accept(MAIN, [SourceText("conf.d/10.yaml", b"models: ~")])
    assert caught.value.reason == "Empty"


# Two levels of maps over scalars or lists, so that no file has a map where another has a value; and no null.
INNER = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2), max_size=3)
DOCUMENT = st.dictionaries(st.sampled_from("abc"), INNER, max_size=3).map(lambda document: node(document))


@given(DOCUMENT, DOCUMENT, DOCUMENT)
def test_merging_is_associative_where_kinds_agree(a: MapNode, b: MapNode, c: MapNode) -> None:
    assert plain(merge(merge(a, [b]), [c])) == plain(merge(a, [merge(b, [c])])) == plain(merge(a, [b, c]))


@given(DOCUMENT)
def test_merging_nothing_or_itself_changes_nothing(a: MapNode) -> None:
    assert plain(merge(a, [node("{}")])) == plain(merge(node("{}"), [a])) == plain(merge(a, [a])) == plain(a)
