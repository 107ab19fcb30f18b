"""Benchmarks' records as tables for other programs: CSV and Markdown. A name in one is never more than a name there."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

from offgridd.cli import quality
from offgridd.core.stamps import stamp

Record = dict[str, Any]
# figure -> what it is called, how it is shown
ROWS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "prompt_tps": ("prompt, tokens/s", "{:.1f}".format),
    "generation_tps": ("generation, tokens/s", "{:.1f}".format),
    "ttft": ("first token, ms", lambda seconds: f"{seconds * 1e3:.1f}"),
    "itl_p50": ("between tokens, ms", lambda seconds: f"{seconds * 1e3:.2f}"),
    "itl_p95": ("the same, p95, ms", lambda seconds: f"{seconds * 1e3:.2f}"),
    "total": ("in all, s", "{:.2f}".format),
}


def note(result: dict[str, Any]) -> str:
    return "  (each run was disturbed by others: not to be relied on)" if result["disturbed"] else ""


def cell(result: dict[str, Any], name: str) -> str:
    return ROWS[name][1](result[name]["median"]) if name in result else "-"


def as_csv(records: Sequence[Record]) -> str:
    out, more = io.StringIO(), quality.columns(records)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "started", "label", "concurrency", "depth", "disturbed", *ROWS, "memory_mb", *more])
    for one in records:
        for result in one["results"]:
            medians = [result[name]["median"] if name in result else "" for name in ROWS]
            names = [_no_formula(one["model"]), stamp(one["started"]), _no_formula(result["label"])]
            head = [*names, result["concurrency"], result["depth"]]
            writer.writerow([*head, result["disturbed"], *medians, one["memory_mb"], *quality.cells(one, more)])
    return out.getvalue()


def as_markdown(records: Sequence[Record]) -> list[str]:
    more = quality.columns(records)
    titles = ["model", "what", *(title for title, _ in ROWS.values()), "memory, MB", *more]
    lines = [f"| {' | '.join(titles)} |", "| --- | --- |" + " ---: |" * (len(titles) - 2)]
    for one in records:
        for result in one["results"]:
            cells = [*(cell(result, name) for name in ROWS), one["memory_mb"], *quality.cells(one, more)]
            names = _no_markup(one["model"]), f"{_no_markup(result['label'])}{note(result)}"
            lines.append(f"| {' | '.join(map(str, [*names, *cells]))} |")
    return lines


def _no_formula(name: str) -> str:
    """With an apostrophe before it where a spreadsheet would compute it."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _no_markup(name: str) -> str:
    """As text of a cell: neither HTML nor Markdown, and no end of the cell."""
    return "".join(f"\\{c}" if c in "\\`*[]|" else c for c in html.escape(name, quote=False))
