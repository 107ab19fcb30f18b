"""Lines over time in a terminal. One door to plotext, which is imported at the first chart."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

from offgridd.cli.terminal import clean, is_terminal
from offgridd.core.stamps import stamp
from offgridd.core.svg import Panel

_MARKERS: Final = "*o+x#@%&"  # that tell the lines apart where there are no colours
_HEIGHT, _MOST, _LONGEST = 16, 120, 44  # lines; columns of a chart; characters of a name in it


def draw(panels: tuple[Panel, ...]) -> None:
    """Prints each, as wide as the terminal is; in colour only where it is one and NO_COLOR is not set."""
    width = max(40, min(_MOST, shutil.get_terminal_size((80, 24)).columns))
    coloured = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for panel in panels:
        text = chart(panel, width, coloured=coloured)
        print(text.encode(sys.stdout.encoding or "utf-8", "replace").decode(sys.stdout.encoding or "utf-8"), flush=True)


def chart(panel: Panel, width: int, *, coloured: bool) -> str:
    """No line is longer than `width`. What was named by others is cleaned: colours are the only commands in it."""
    import plotext

    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plotsize(width, _HEIGHT)
    plotext.theme("clear")
    plotext.title(clean(panel.title))
    times = [x for series in panel.series for x, _ in series.points]
    for number, series in enumerate(panel.series):
        points = sorted(series.points)
        name = clean(series.name)[:_LONGEST]
        colour = ("blue+", "orange+", "green+", "magenta+", "cyan+", "red+")[number % 6]
        marker = _MARKERS[number % len(_MARKERS)]
        plotext.plot([x for x, _ in points], [y for _, y in points], marker=marker, label=name, color=colour)
    ends = sorted({min(times), max(times)})
    plotext.xticks(ends, [stamp(end) for end in ends])
    text = str(plotext.build())
    return text if coloured else str(plotext.uncolorize(text))
