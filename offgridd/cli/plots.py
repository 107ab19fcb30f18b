"""Plots of benchmarks: a history over time, and models side by side; in the terminal or as SVG files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, CliError
from offgridd.cli.terminal import is_terminal
from offgridd.cli.writing import write
from offgridd.core import svg

Record = dict[str, Any]
TERMINAL = "-"
_FIGURES = {"prompt_tps": "prompt, tokens/s", "generation_tps": "generation, tokens/s", "ttft": "first token, s"}


def check(file: str | None, *, terminal: bool = False) -> None:
    """Whether it can be drawn, before anything is measured for it. Raises CliError.

    SVG needs no library; to make a PNG of it there are programs on every system.
    """
    if terminal and file == TERMINAL:
        return
    if file is not None and Path(file).suffix.lower() != ".svg":
        text = f"cannot draw {file}: only .svg is written; a .png is made of that by rsvg-convert or a browser"
        raise CliError(REFUSED, text)


def history(records: Sequence[Record], file: str | None, whence: Callable[[Record], str]) -> None:
    """Into the file, or in the terminal where there is one or it is asked for. `whence` tells machines apart."""
    panels = tuple(panel for name in _FIGURES if name != "ttft" and (panel := _panel(records, name, whence)).series)
    if file is not None and file != TERMINAL:
        names = sorted({str(one["model"]) for one in records})
        write(Path(file), svg.over_time(f"benchmarks of {', '.join(names)}", panels).encode())
    elif panels and (file == TERMINAL or is_terminal(sys.stdout)):
        from offgridd.cli import chart

        chart.draw(panels)


def side_by_side(
    records: Sequence[Record], file: str | None, values: Callable[[Record, int, str], Sequence[float]]
) -> None:  # fmt: skip
    """Each figure of each kind; `values`: of the runs that a record's figure was made of. Nothing without a file."""
    if file is None:
        return
    groups = []
    for at, result in enumerate(records[0]["results"]):
        for name, title in _FIGURES.items():
            bars = tuple(
                svg.Bar(str(one["model"]), float(one["results"][at][name]["median"]), tuple(values(one, at, name)))
                for one in records
                if name in one["results"][at]
            )
            groups += [svg.Bars(f"{result['label']}: {title}", bars)] if bars else []
    names = ", ".join(str(one["model"]) for one in records)
    write(Path(file), svg.side_by_side(f"benchmarks of {names}", groups).encode())


def _panel(records: Sequence[Record], figure: str, whence: Callable[[Record], str]) -> svg.Panel:
    """A line for each kind on each machine; what was disturbed is no point of it."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for one in sorted(records, key=lambda one: float(one["started"])):
        for result in one["results"]:
            if figure in result and not result["disturbed"]:
                place = lines.setdefault(f"{result['label']}{whence(one)}", [])
                place.append((float(one["started"]), float(result[figure]["median"])))
    series = tuple(svg.Series(name, tuple(points)) for name, points in lines.items())
    return svg.Panel(_FIGURES[figure], series)
