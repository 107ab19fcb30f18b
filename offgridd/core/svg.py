"""Plots as SVG: lines over time, and bars with the runs as dots. Pure: data in, text out.

Plain shapes and classes, so that anything that draws SVG draws it: https://www.w3.org/TR/SVG11/. On a dark ground where
the reader's system asks for one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from offgridd.core.stamps import stamp

WIDTH: Final = 760
_LEFT, _RIGHT, _HEIGHT, _ROW = 150, 70, 200, 26  # pixels
_COLOURS: Final = ("#2f7fe0", "#b8720a", "#238f3d", "#c9408a", "#8957e5", "#d83a34", "#1b8a92", "#7d8590")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#1f2328}.head{font-weight:bold}.ground{fill:#fff}.grid{stroke:#d0d7de}"
    ".dot{fill:#1f2328;fill-opacity:.55}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}.dot{fill:#e6edf3}}"
)


@dataclass(frozen=True, slots=True)
class Series:
    """Points over time: seconds since the epoch, and the value."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """`value` is what it is long for, `dots` what that was made of."""

    name: str
    value: float
    dots: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    title: str
    bars: tuple[Bar, ...]


def over_time(title: str, panels: Sequence[Panel]) -> str:
    """One below the other, with one time for all."""
    times = [x for panel in panels for series in panel.series for x, _ in series.points]
    first, last = min(times, default=0.0), max(times, default=0.0)
    body: list[str] = []
    top = 40.0
    for panel in panels:
        body += _panel(panel, top, (first, last))
        top += _HEIGHT + 60 + 18 * len(panel.series)
    return _document(title, top, body)


def side_by_side(title: str, groups: Sequence[Bars]) -> str:
    """Each group to a scale of its own, from zero."""
    body: list[str] = []
    top = 40.0
    for group in groups:
        body += _bars(group, top)
        top += 40 + _ROW * len(group.bars)
    return _document(title, top, body)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`: steps of 1, 2 or 5 times a power of ten."""
    span = max(high - low, abs(high) * 1e-6, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if power * k * most >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _panel(panel: Panel, top: float, times: tuple[float, float]) -> Iterator[str]:
    yield _text(10, top, panel.title, "head")
    values = [y for series in panel.series for _, y in series.points]
    marks = ticks(min(values, default=0.0), max(values, default=1.0))
    bottom, right = top + 14 + _HEIGHT, WIDTH - _RIGHT

    def x_of(x: float) -> float:
        return _LEFT + (x - times[0]) / max(times[1] - times[0], 1.0) * (right - _LEFT)

    def y_of(y: float) -> float:
        return bottom - (y - marks[0]) / (marks[-1] - marks[0]) * _HEIGHT

    for mark in marks:
        yield f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y_of(mark):.1f}" y2="{y_of(mark):.1f}"/>'
        yield _text(_LEFT - 8, y_of(mark) + 4, f"{mark:.4g}", anchor="end")
    for time in sorted(set(times)):
        yield _text(x_of(time), bottom + 18, stamp(time), anchor="middle")
    for number, series in enumerate(panel.series):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(x_of(x), y_of(y)) for x, y in sorted(series.points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        row = bottom + 40 + 18 * number
        yield f'<rect x="{_LEFT}" y="{row - 9:.1f}" width="10" height="10" fill="{colour}"/>'
        yield _text(_LEFT + 16, row, series.name)


def _bars(group: Bars, top: float) -> Iterator[str]:
    yield _text(10, top, group.title, "head")
    most = ticks(0.0, max((value for bar in group.bars for value in (bar.value, *bar.dots)), default=1.0))[-1]
    scale = (WIDTH - _LEFT - _RIGHT) / most
    for number, bar in enumerate(group.bars):
        row = top + 12 + _ROW * number
        colour = _COLOURS[number % len(_COLOURS)]
        yield _text(_LEFT - 8, row + 14, bar.name if len(bar.name) < 24 else f"{bar.name[:22]}...", anchor="end")
        yield f'<rect x="{_LEFT}" y="{row:.1f}" width="{bar.value * scale:.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        for dot in bar.dots:
            yield f'<circle class="dot" cx="{_LEFT + dot * scale:.1f}" cy="{row + (_ROW - 8) / 2:.1f}" r="3"/>'
        end = _LEFT + max(bar.value, *bar.dots, 0.0) * scale
        yield _text(end + 8, row + 14, f"{bar.value:.4g}")


def _document(title: str, height: float, body: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
    head += f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    ground = '<rect class="ground" width="100%" height="100%"/>'
    lines = [head, f"<title>{_escaped(title)}</title>", f"<style>{_STYLE}</style>", ground, *body, "</svg>"]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """XML has no way to write most characters that can not be shown."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
