"""How probes of quality are shown."""

from __future__ import annotations

from typing import Any

from offgridd.cli.quality import cells, columns, lines, side_by_side, stage


def record(name: str, **more: Any) -> dict[str, Any]:
    found = {
        "perplexity": 20.0, "error": 0.5, "tokens": 2040, "text_sha256": "t", "tokens_sha256": "v", "n_ctx": 512,
        "right": 9, "asked": 13, "json_valid": 2, "json_asked": 4, "not_measured": None, "not_asked": None,
        "questions_sha256": "q", "tools_right": 3, "tools_asked": 5, "tools_not_asked": None,
    }  # fmt: skip
    return {"model": name, "quality": {**found, **more}}


def old(name: str) -> dict[str, Any]:
    """Of a version that asked no questions with tools."""
    made = record(name, questions_sha256="p")
    made["quality"] = {key: value for key, value in made["quality"].items() if not key.startswith("tools_")}
    return made


def test_one_is_shown_with_its_error() -> None:
    assert lines(record("a")) == [
        "", "perplexity             20.000 +/- 0.500, 2040 tokens", "answers right          9 of 13",
        "JSON valid             2 of 4", "right with tools       3 of 5",
    ]  # fmt: skip
    assert lines(old("a")) == lines(record("a"))[:-1]
    assert lines({"model": "a"}) == []


def test_what_a_broken_model_has_is_no_wider_than_a_column() -> None:
    broken = record("a", perplexity=3.1303138e41, error=7.26e40)
    assert lines(broken)[1] == "perplexity             3.13e+41 +/- 7.26e+40, 2040 tokens"
    assert "    3.13e+41       20.000" in side_by_side([broken, record("b")], 12)[1]


def test_what_was_not_measured_says_why() -> None:
    none = {"asked": 0, "json_asked": 0, "tools_asked": 0}
    found = record("a", perplexity=None, error=None, not_measured="too small", not_asked="no template", **none)
    assert lines(found)[1:] == [
        "perplexity             not measured: too small",
        "questions              not asked: no template",
    ]
    shown = side_by_side([record("b"), found], 8)
    assert shown[1].split() == ["perplexity", "20.000", "-"]
    assert [line.split()[-1] for line in shown[3:6]] == ["-", "-", "-"]
    assert shown[-2:] == ["a: no perplexity: too small", "a: no questions: no template"]


def test_where_none_had_tools_the_others_are_shown() -> None:
    found = record("a", tools_right=0, tools_asked=0, tools_not_asked="too long")
    assert lines(found)[2:] == [
        "answers right          9 of 13", "JSON valid             2 of 4", "questions with tools   not asked: too long",
    ]  # fmt: skip
    shown = side_by_side([record("b"), found], 8)
    assert shown[5].split() == ["right", "with", "tools", "3", "of", "5", "-"]
    assert shown[6:] == ["a: no questions with tools: too long"]


def test_an_older_record_beside_a_newer_one_says_that_its_questions_were_others() -> None:
    shown = side_by_side([record("a"), old("b")], 8)
    assert shown[5].split()[:7] == ["right", "with", "tools", "3", "of", "5", "-"]
    assert [line.endswith("not comparable: other questions") for line in shown[3:6]] == [True] * 3
    assert len(side_by_side([old("a"), old("b")], 8)) == len(shown) - 1, "nothing is shown that none has"
    assert not any("not comparable" in line for line in side_by_side([old("a"), old("b")], 8))


def test_models_stand_side_by_side_with_a_word_on_each_beside_the_first() -> None:
    first, near, far = record("a"), record("b", perplexity=20.6), record("c", perplexity=21.0, right=1)
    other = record("d", tokens_sha256="w", questions_sha256="r")
    shown = side_by_side([first, near, far, other], 8)
    assert shown[1].endswith("within the error, differ, not comparable: another vocabulary")
    assert shown[3].split()[:8] == ["answers", "right", "9", "of", "13", "9", "of", "13"]
    assert shown[3].endswith("not comparable: other questions")
    assert side_by_side([first, {"model": "b"}], 8) == []


def test_tables_have_the_columns_only_where_there_is_something_in_them() -> None:
    assert columns([{"model": "a"}]) == ()
    names = columns([record("a"), {"model": "b"}])
    assert cells(record("a", perplexity=None), names) == ["", 0.5, 9, 13, 2, 4, 3, 5]
    assert cells(old("a"), names) == [20.0, 0.5, 9, 13, 2, 4, "", ""]
    assert cells({"model": "b"}, names) == [""] * 8
    assert stage({"read": 1, "of": 8}) == "1 of 8 parts of the text"
    assert stage({"done": 1, "of": 8}) is None
