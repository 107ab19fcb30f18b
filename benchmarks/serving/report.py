"""docs/serving.md and its plot, made of the results that are kept."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.pairs import Plan
from serving.peer import ROOT, tools_python
from serving.record import RESULTS, load

PAGE, PLOT = ROOT / "docs" / "serving.md", ROOT / "docs" / "serving.svg"
DRAW = Path(__file__).with_name("plot.py")
TITLES = {"q4_1": "SmolLM2-135M-Instruct Q4_1", "q4_0": "The same model as Q4_0"}
HEAD = """# Serving, measured

<!-- Written by `python -m serving --report` from benchmarks/results/serving.json. Do not edit. -->

`make bench-serving` measures it again. {machine}

![How many times better, with 95 % intervals](serving.svg)

## How

- The peer is `llama-server`, the limit `llama-bench`, both built from the very source of our wheel (llama-cpp-python
  {library}), for this very CPU. Both servers are asked over HTTP by the same client, in turns in one run: ours, the
  other, ours, the other.
- Same file, 2 threads, flash attention, greedy, the same prompts; the end tokens are forbidden, so that all answers
  have their length. 16 slots and 16,384 cells; for the chat and the long prompt 10 and 81,920. `llama-server -c CELLS
  -np SLOTS -t 2 -fa on` runs in its own environment with the better of `--kv-unified` and `--no-kv-unified` in that
  very scene (the notes have both); `llama-bench` with the `GOMP_SPINCOUNT` of our workers.
- Figures are medians over the pairs. The ratio is the median of the pairs' ratios, always so that more is better, with
  its 95 % bootstrap interval. A bound holds when the interval's upper end meets it and the interval is no wider than
  twice the bound's distance from 1 (0.06 at a bound of 1), or when its lower end meets it. Else pairs are added, up to
  60; what is undecided then is said to be so. Of fewer than 15 pairs a verdict is a hint, and says so.
"""
ORDER = ("streams", "bench", "prefix", "chat", "gap", "long", "beside", "kept", "go-on", "busy", "share", "p99",
         "adapts", "exact", "cells", "step", "sampling", "daemon", "soak")  # fmt: skip
COLUMNS = "| what | offgridd | beside it | times better | bound | verdict | pairs | date |\n" + "| --- " * 8 + "|\n"


def write() -> None:
    found = load()
    PAGE.write_text(page(found))
    subprocess.run([str(tools_python("matplotlib")), str(DRAW), str(RESULTS), str(PLOT)], check=True)


def page(found: Mapping[str, Any]) -> str:
    """The page's text. Pure."""
    parts = [HEAD.format(machine=_machine(found["machine"]), library=found["machine"]["library"])]
    parts += [
        _table(TITLES[m], sorted(found["models"][m].values(), key=_place)) for m in TITLES if m in found["models"]
    ]
    return "\n".join(parts)


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    """By scene, then by the number of streams that ends many keys."""
    known = [at for at, start in enumerate(ORDER) if row["key"].startswith(start)]
    number = row["key"].rpartition("-")[2]
    return max(known, default=len(ORDER)), int(number) if number.isdigit() else 0


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"The machine: {machine['cores']} cores ({machine['cpu']}) of a virtual machine on shared hardware, "
        f"{machine['memory']}, {machine['system']}, Python {machine['python']}. Read ratios, not absolutes."
    )


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    notes = [f"- {row['title']}: {row['note']}." for row in rows if row["note"]]
    more = "\n".join(["Notes:", "", *notes, ""]) if notes else ""
    return f"## {title}\n\n{COLUMNS}{''.join(_line(row) for row in rows)}\n{more}"


def _line(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        cells = [row["title"], row["text"], "", "", "", row["verdict"], "", row["date"]]
    else:
        aim = f" (aim {row['aim']})" if row["aim"] else ""
        bound = f"{row['bound']:g}{aim}" if row["bound"] is not None else ""
        ratio = f"{_short(row['ratio'])} [{_short(row['low'])}, {_short(row['high'])}]"
        beside = f"{_short(row['b'])} {row['unit']} ({row['beside']})"
        cells = [row["title"], f"{_short(row['a'])} {row['unit']}", beside, ratio, bound, _verdict(row),
                 str(row["pairs"]), row["date"]]  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def _verdict(row: Mapping[str, Any]) -> str:
    """With a word where there are fewer pairs than a verdict wants."""
    few = row["bound"] is not None and row["pairs"] < Plan().pairs
    return f"{row['verdict']}, of few pairs" if few else str(row["verdict"])


def _short(value: float) -> str:
    """Three digits, without exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
