"""What was found, one row a question, and the JSON file that keeps it. A run replaces only the rows it measured."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.peer import ROOT, pinned

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"


@dataclass(frozen=True, slots=True)
class Row:
    """`a` is ours, `b` what it stands beside, both medians; `text` in place of figures where there are no pairs."""

    key: str
    title: str
    verdict: str
    unit: str = ""
    pairs: int = 0
    a: float | None = None
    b: float | None = None
    beside: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    aim: str = ""
    note: str = ""
    text: str = ""
    date: str = ""

    def __str__(self) -> str:
        if self.ratio is None or self.a is None or self.b is None:
            return f"{self.title}: {self.text} [{self.verdict}]"
        bound = f", bound {self.bound:g}" if self.bound is not None else ""
        where = f"[{self.low:.3g}, {self.high:.3g}], {self.pairs} pairs{bound}"
        sides = f"{self.a:.4g} beside {self.b:.4g} {self.unit} ({self.beside})"
        return f"{self.title}: {sides}, {self.ratio:.3g} times better {where} [{self.verdict}] {self.note}"


def stated(key: str, title: str, text: str, *, holds: bool | None = None, note: str = "") -> Row:
    """A row without pairs. `holds` None: nothing was promised."""
    verdict = "stated" if holds is None else "holds" if holds else "falls short"
    return Row(key, title, verdict, text=text, note=note)


def today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def machine() -> dict[str, Any]:
    """In general words: what a reader needs to judge the figures."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = model[1] if model else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "memory": f"{memory:.0f} GiB",
            "system": platform.system(), "python": platform.python_version(), "library": pinned()[0]}  # fmt: skip


def load(path: Path = RESULTS) -> dict[str, Any]:
    if not path.exists():
        return {"machine": machine(), "models": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def keep(model: str, row: Row, path: Path = RESULTS) -> None:
    """Puts the row in place of the one with its key. At once, so that a run that is cut off loses nothing."""
    found = load(path)
    found["machine"] = machine()
    found["models"].setdefault(model, {})[row.key] = {**asdict(row), "date": today()}
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    part.rename(path)
