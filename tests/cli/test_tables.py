"""Tables for other programs, read back by real parsers: a name in them is never more than a name."""

from __future__ import annotations

import csv
import io

from markdown_it import MarkdownIt
from support.records import record

from offgridd.api.benchmark import shown
from offgridd.cli.tables import as_csv, as_markdown

EVIL = "=cmd|' /C calc'!A0 <img src=x> [a](b) \\"
RECORDS = [shown(record(1)), shown(record(2, model=EVIL, results__0__label=f"-{EVIL}"))]


def test_csv_has_a_row_of_each_kind_and_no_formula() -> None:
    head, first, evil = csv.reader(io.StringIO(as_csv(RECORDS)))
    assert len(head) == len(first) == len(evil)
    assert dict(zip(head, first, strict=True))["prompt_tps"] == "2.0"
    assert (first[0], evil[0], evil[2]) == ("smol", f"'{EVIL}", f"'-{EVIL}")


def test_markdown_has_a_row_of_each_kind_and_no_markup() -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse("\n".join(as_markdown(RECORDS)))
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 3 * 9, "nine cells in each row"
    assert [token.content for token in inline[9:11]] == ["smol", "pp512 + tg128"]
    evil = inline[18].children or []
    assert {child.type for child in evil} <= {"text", "text_special"}
    assert "".join(child.content for child in evil) == EVIL
