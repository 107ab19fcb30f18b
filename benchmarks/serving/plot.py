"""Draws the ratios with their intervals and bounds: `plot.py RESULTS.json PLOT.svg`. Needs matplotlib alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]
import matplotlib.pyplot as plt  # type: ignore[import-not-found]

COLOURS = {"q4_1": "#1f6f8b", "q4_0": "#c8553d"}
LIMIT = "#444444"


def main(results: Path, target: Path) -> None:
    models = json.loads(results.read_text())["models"]
    found = [(model, row) for model in COLOURS for row in models.get(model, {}).values() if row["ratio"] is not None]
    titles = list(dict.fromkeys(row["title"] for _, row in found))
    mpl.rcParams.update({"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(figsize=(10, 1.2 + 0.34 * max(len(titles), 1)), layout="constrained")
    for model, row in found:
        _draw(axes, titles.index(row["title"]), model, row)
    axes.axvline(1, color="#999999", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.5, 0.7, 1, 1.5, 2, 4, 8, 16, 32]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xlabel("times better than what stands beside it (median and 95 % interval; | is the bound)")
    for model in (m for m in COLOURS if m in models):
        axes.plot([], [], "o", color=COLOURS[model], label=model.upper())
    if found:
        axes.legend(loc="lower right")
    figure.savefig(target, metadata={"Date": None})


def _draw(axes: Any, at: int, model: str, row: dict[str, Any]) -> None:
    shift = 0.15 if model == "q4_0" else -0.15
    error = [[row["ratio"] - row["low"]], [row["high"] - row["ratio"]]]
    axes.errorbar(row["ratio"], at + shift, xerr=error, fmt="o", markersize=4, color=COLOURS[model], capsize=2)
    if row["bound"] is not None:
        axes.plot(row["bound"], at + shift, "|", color=LIMIT, markersize=11, markeredgewidth=1.6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
