"""How much of the processors others took while something was measured: a pair that was disturbed is measured again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MOST: Final = 0.03  # share of all processors that others may take
_TICK: Final = os.sysconf("SC_CLK_TCK")


class Quiet:
    """From its making on. Others: whoever does not descend from this process, and other guests of the machine."""

    def __init__(self) -> None:
        self._all, self._ours = _busy(), of_tree()

    def others(self) -> float:
        """Their share of what all processors could have done since."""
        (busy, whole), ours = _busy(), of_tree()
        passed = whole - self._all[1]
        taken = busy - self._all[0] - (ours - self._ours) * _TICK
        return max(0.0, taken / passed) if passed else 0.0


def _busy() -> tuple[int, int]:
    """Ticks of all processors: those that were taken, and all."""
    user, nice, system, idle, wait, irq, soft, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    busy = user + nice + system + irq + soft + steal
    return busy, busy + idle + wait


def of_tree() -> float:
    """Seconds of processor time of this process, all that descend from it, and those of them that have ended."""
    times, parents = dict[int, float](), dict[int, int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = sum(map(int, fields[11:15])) / _TICK
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(times[pid] for pid in ours)
