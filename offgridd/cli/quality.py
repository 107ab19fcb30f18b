"""How benchmark and compare show what a probe of quality found: a record's `quality`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from offgridd.core.quality import compared, compared_answers

Record = dict[str, Any]
# as columns of CSV and Markdown, where there is something to show
COLUMNS = ("perplexity", "error", "right", "asked", "json_valid", "json_asked", "tools_right", "tools_asked")
_ANSWERS = (
    ("answers right", "right", "asked"),
    ("JSON valid", "json_valid", "json_asked"),
    ("right with tools", "tools_right", "tools_asked"),
)
_WHYS = (
    ("not_measured", "no perplexity"),
    ("not_asked", "no questions"),
    ("tools_not_asked", "no questions with tools"),
)


def add_to(parser: argparse.ArgumentParser) -> None:
    text = "also the perplexity of a text and the answers to a few questions"
    parser.add_argument("--quality", action="store_true", help=text)


def has_it(record: Record) -> bool:
    return record.get("quality") is not None


def stage(item: Record) -> str | None:
    """How far it is, where that is what is being told of."""
    if "read" in item:
        return f"{item['read']} of {item['of']} parts of the text"
    return f"{item['asked']} of {item['of']} questions" if "asked" in item else None


def lines(record: Record) -> list[str]:
    """Of one record."""
    if not has_it(record):
        return []
    found = record["quality"]
    if found["not_measured"]:
        rows = [("perplexity", f"not measured: {found['not_measured']}")]
    else:
        said = f"{_number(found['perplexity'])} +/- {_number(found['error'])}, {found['tokens']} tokens"
        rows = [("perplexity", said)]
    if found["not_asked"]:
        rows.append(("questions", f"not asked: {found['not_asked']}"))
    else:
        rows += [(title, _score(found, right, asked)) for title, right, asked in _ANSWERS if found.get(asked)]
    if found.get("tools_not_asked"):
        rows.append(("questions with tools", f"not asked: {found['tools_not_asked']}"))
    return ["", *(f"{title:<22} {text}" for title, text in rows)]


def side_by_side(records: Sequence[Record], width: int) -> list[str]:
    """The first beside each other one; nothing where one of them has none."""
    if not all(map(has_it, records)):
        return []
    found = [one["quality"] for one in records]
    first, others = found[0], found[1:]
    rows = [
        ("perplexity", [_number(one["perplexity"]) for one in found], [compared(first, one) for one in others]),
        ("its standard error", [_number(one["error"]) for one in found], []),
    ]
    for title, right, asked in _ANSWERS:
        if any(asked in one for one in found):
            cells = [_score(one, right, asked) for one in found]
            rows.append((title, cells, [compared_answers(first, one) for one in others]))
    made = [
        f"{title:<22} {' '.join(f'{cell:>{width}}' for cell in cells)}  {', '.join(filter(None, words))}".rstrip()
        for title, cells, words in rows
    ]
    whys = [
        f"{one['model']}: {what}: {one['quality'][field]}"
        for one in records
        for field, what in _WHYS
        if one["quality"].get(field)
    ]
    return ["", *made, *whys]


def columns(records: Sequence[Record]) -> tuple[str, ...]:
    return COLUMNS if any(map(has_it, records)) else ()


def cells(record: Record, names: Sequence[str]) -> list[Any]:
    """What stands in these columns."""
    found = record.get("quality") or {}
    return ["" if found.get(name) is None else found[name] for name in names]


def _score(found: Record, right: str, asked: str) -> str:
    """Older records have none with tools."""
    return f"{found.get(right, 0)} of {found[asked]}" if found.get(asked) else "-"


def _number(value: float | None) -> str:
    """A broken model's may have a hundred digits."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1e6 else f"{value:.3g}"
