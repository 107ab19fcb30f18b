"""Files that are imported: each bad line is named, and what is made to harm is refused in time."""

from __future__ import annotations

import json
import time

import pytest
from support.records import lines, record

from offgridd.api.benchimport import MOST_LINES, records
from offgridd.core.errors import RequestRefused

GOOD = lines(record(1))
TEXT = GOOD.decode().strip()
BAD: list[tuple[bytes, str]] = [
    (b"{", "line 2: Expecting"),
    (b"[]", "line 2: it is not a JSON object"),
    (b"5", "line 2: it is not a JSON object"),
    (b"\xff\xfe", "line 2: it is not UTF-8"),
    (b"\x00", "line 2: "),
    (b"[" * 100_000, "line 2: it is nested deeper than 64"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "line 2: it is nested deeper than 64"),
    (TEXT.replace('"seconds": 5.5', '"seconds": NaN').encode(), "line 2: NaN is not a number here"),
    (TEXT.replace('"seconds": 5.5', '"seconds": 1e999').encode(), "line 2: a number is too large"),
    (TEXT.replace('"seconds": 5.5', '"seconds": ' + "9" * 5000).encode(), "line 2: Exceeds the limit"),
    (TEXT.replace('"seconds": 5.5', '"seconds": -0.5').encode(), "line 2: Expected `float` >= 0"),
    (TEXT.replace("{", '{"uid": "x", ', 1).encode(), "line 2: the key 'uid' stands there twice"),
    (TEXT.replace('"smol"', '"\\ud800"').encode(), "line 2: it is not UTF-8"),
    (TEXT.replace('"smol"', '"\\u001b]0;owned\\u0007"').encode(), "line 2: a name in it has characters"),
    (TEXT.replace("/v1", "/v2").encode(), "line 2: its format is version 2"),
    (b"{}", "line 2: it is no benchmark's record"),
    ((TEXT[:-1] + ', "more": "' + "x" * (4 << 20) + '"}').encode(), "line 2: a record has at most 4 MiB"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_bad_line_is_named_and_nothing_is_taken(line: bytes, why: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        records(GOOD + line + b"\n" + lines(record(2)))
    assert refused.value.message.startswith(f"cannot import, and have kept nothing: {why}")
    assert len(refused.value.message) < 1000


def test_many_bad_lines_are_not_all_told_of() -> None:
    with pytest.raises(RequestRefused) as refused:
        records(GOOD + b"x\n" * 1000)
    assert refused.value.message.count("line ") == 5
    assert refused.value.message.endswith("; and more")


def test_lines_without_anything_do_not_count_and_the_last_may_end_the_file() -> None:
    found = records(b"\n  \r\n" + GOOD + b"\n" + lines(record(2)).strip())
    assert [row.uid for row in found] == [record(1)["uid"], record(2)["uid"]]
    assert json.loads(found[0].text) == record(1)
    for nothing in (b"", b"\n\n"):
        with pytest.raises(RequestRefused, match="there is no record in it"):
            records(nothing)


def test_quality_of_a_version_that_asked_nothing_with_tools_comes_in_and_newer_one_whole() -> None:
    asked = {"right": 1, "asked": 2, "json_valid": 0, "json_asked": 1, "not_asked": None, "questions_sha256": "b"}
    text = {"perplexity": 9.5, "error": 0.5, "tokens": 9, "n_ctx": 512, "tokens_sha256": "a", "not_measured": None}
    old = {**text, **asked, "answers": []}
    calls = [{"name": "f", "arguments": "{}"}]
    answers = [{"question": "q", "answer": "", "right": True, "calls": calls}]
    new = {**old, "tools_right": 1, "tools_asked": 1, "tools_not_asked": None, "answers": answers}
    found = records(lines(record(1, quality=old), record(2, quality=new)))
    assert [json.loads(row.text)["quality"] for row in found] == [old, new]
    with pytest.raises(RequestRefused, match="line 2: Expected `int`"):
        records(lines(record(1, quality=old), record(2, quality={**new, "tools_right": "all"})))


@pytest.mark.parametrize("data", [b"\n" * (16 << 20), b" " * (16 << 20), b"{}\n" * (5 << 20), b'"' * (16 << 20)])
def test_what_only_takes_time_takes_little(data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(RequestRefused):
        records(data)
    assert time.monotonic() - began < 5


def test_lines_are_bounded() -> None:
    with pytest.raises(RequestRefused, match=f"line {MOST_LINES + 1}: {MOST_LINES} lines are the most"):
        records(GOOD + b"\n" * MOST_LINES)
