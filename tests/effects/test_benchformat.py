"""What a record may be: real ones are taken, wrong ones refused with the reason, by us and by the schema alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.jsonschema import valid
from support.records import RECORD, record

from offgridd.api.benchmark import shown
from offgridd.effects.benchformat import ADDED, checked, schema, schema_text

DOCS = Path(__file__).parents[2] / "docs"
HUGE = 10**400
QUALITY = {
    "perplexity": 1e200, "error": 0.5, "tokens": 9, "n_ctx": 512, "tokens_sha256": "a", "not_measured": None,
    "right": 1, "asked": 2, "json_valid": 0, "json_asked": 1, "not_asked": None, "questions_sha256": "b",
    "answers": [{"question": "q", "answer": "\u001b[31m", "right": True}],
}  # fmt: skip
CALLS = [{"name": "f\u001b", "arguments": "{"}]
WITH_TOOLS = {
    **QUALITY, "tools_right": 1, "tools_asked": 2, "tools_not_asked": None,
    "answers": [*QUALITY["answers"], {"question": "t", "answer": "", "right": True, "calls": CALLS}],
}  # fmt: skip
WRONG: list[tuple[str, Any, str]] = [
    ("format", "offgridd.benchmark/v2", "its format is version 2, this offgridd knows offgridd.benchmark/v1"),
    ("format", "offgridd.benchmark/v1\n", "it is no benchmark's record"),
    ("format", 1, "it is no benchmark's record"),
    ("uid", "A" * 32, r"Expected `str` matching regex .* `\$.uid`"),
    ("uid", "0" * 32 + "\n", "length"),
    ("model", "", "length >= 1"),
    ("model", "m" * 257, "length <= 256"),
    ("load_key", "a b", "regex"),
    ("file__size", -1, ">= 0"),
    ("file__sha256", "../x", "regex"),
    ("started", 1e18, "< 253402300800"),
    ("started", "now", "Expected `float`, got `str`"),
    ("seconds", True, "Expected `float`, got `bool`"),
    ("seconds", HUGE, "out of range"),
    ("threads", 1.5, "Expected `int`, got `float`"),
    ("memory__own_peak_bytes", None, "Expected `int`, got `null`"),
    ("memory__reserved", {}, "Expected `array"),
    ("environment__cores", 0, ">= 1"),
    ("environment__gpus", ["a", 1], "Expected `str`, got `int`"),
    ("workload__iterations", 101, "<= 100"),
    ("workload__depth", [], "length >= 1"),
    ("results", [], "length >= 1"),
    ("results__0__ttft", 3, "Expected `object`, got `int`"),
    ("results__0__ttft", {"median": 1}, "missing required field"),
    ("results__0__disturbed", "no", "Expected `bool`"),
    ("runs__0__figures", {"ttft": "fast"}, "Expected `float | null`"),
    ("runs__0__figures", {"x" * 300: 1}, "length"),
    ("runs", [RECORD["runs"][0]] * 4801, "length <= 4800"),
    ("load", [], "Expected `object`"),
    ("baseline", {"started": 1.0, "ratios": [{"high": 1}]}, "missing required field `label`"),
    ("baseline", {"started": 1.0, "ratios": 7}, "Expected `array`, got `int`"),
    ("quality", 5, "Expected `object | null`, got `int`"),
    ("quality", {**QUALITY, "right": "all"}, "Expected `int`, got `str`"),
    ("quality", {}, "missing required field"),
    ("quality", {**WITH_TOOLS, "tools_right": -1}, ">= 0"),
    ("quality", {**WITH_TOOLS, "tools_asked": None}, "Expected `int`, got `null`"),
    ("quality", {**WITH_TOOLS, "tools_not_asked": 1}, "Expected `str | null`, got `int`"),
    ("quality", {**WITH_TOOLS, "answers": [{**QUALITY["answers"][0], "calls": [{"name": "f"}]}]}, "missing required"),
    ("quality", {**WITH_TOOLS, "answers": [{**QUALITY["answers"][0], "calls": CALLS * 1001}]}, "length <= 1000"),
]
OTHERWISE: list[tuple[str, Any, str]] = [  # what a schema can not say
    ("workload__depth", [0, 512], "its results are not those of its workload"),
    ("results__0__depth", 5, "its results are not those of its workload"),
    ("model", "a\x1b[31mb", "a name in it has characters that can not be shown"),
    ("quality", {**QUALITY, "error": None}, "its quality has no perplexity, and does not say why"),
    ("model", "a\nb", "a name in it has characters that can not be shown"),
    ("results__0__label", "pp\u202e512", "a name in it has characters that can not be shown"),
]


def test_a_record_is_taken_as_it_is() -> None:
    assert checked(RECORD) == RECORD
    later = record(memory__new=1, results__0__more={"x": 3}, more=[{"x": None}], quality=QUALITY)
    assert checked(record(quality=None)) == record(quality=None)
    assert checked(later) == later, "what a later version says more stays"
    assert valid(later, schema(), schema()["$defs"])


@pytest.mark.parametrize("quality", [QUALITY, WITH_TOOLS, {**WITH_TOOLS, "tools_not_asked": "why"}])
def test_quality_is_taken_with_questions_with_tools_and_without(quality: dict[str, Any]) -> None:
    made = record(quality=quality)
    assert checked(made) == made
    assert valid(made, schema(), schema()["$defs"])


def test_what_get_adds_is_no_part_of_it() -> None:
    assert checked(shown({"id": 7, **RECORD, "imported": True})) == RECORD
    assert shown({"id": 7, **RECORD, "imported": True}).keys() - RECORD.keys() == ADDED


@pytest.mark.parametrize(("name", "value", "why"), WRONG)
def test_a_wrong_one_is_refused(name: str, value: Any, why: str) -> None:
    wrong = record(**{name: value})
    with pytest.raises(ValueError, match=why):
        checked(wrong)
    assert not valid(wrong, schema(), schema()["$defs"])


@pytest.mark.parametrize(("name", "value", "why"), OTHERWISE)
def test_so_is_one_that_contradicts_itself_or_speaks_to_terminals(name: str, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked(record(**{name: value}))


@pytest.mark.parametrize("name", sorted(schema()["$defs"]["Record"]["required"]))
def test_each_field_that_is_needed_is(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        checked({key: value for key, value in RECORD.items() if key != name})


def test_the_schema_beside_the_docs_is_the_format() -> None:
    assert (DOCS / "benchmark.schema.json").read_text() == schema_text()
    assert json.loads(schema_text())["title"] == "offgridd.benchmark/v1"
