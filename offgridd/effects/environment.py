"""The machine that a benchmark runs on, and how much of it others take meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

from offgridd.core.benchmark import host_kind
from offgridd.effects.gpu import gpu_names
from offgridd.effects.memory import total_memory
from offgridd.effects.pulse import worked

SHORT: Final = 0.2  # seconds, of some 20 ticks
_TICK: Final = os.sysconf("SC_CLK_TCK")
_GOVERNOR: Final = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def host() -> dict[str, Any]:
    """What makes results of two machines, or of one before and after a change, incomparable."""
    system = os.uname()
    return {
        "cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "governor": _text(_GOVERNOR), "memory": total_memory(),
        "gpus": gpu_names(),
        "kernel": system.release, "machine": system.machine, "offgridd": importlib.metadata.version("offgridd"),
    }  # fmt: skip


@cache
def kind() -> str:
    """What makes figures of two machines incomparable."""
    return host_kind(host())


class Others:
    """How much processor time others use: from now until it is asked for."""

    def __init__(self, worker: int) -> None:
        self._pids = (os.getpid(), worker)
        self._began, self._busy, self._own = time.monotonic(), _busy(), self._mine()

    def share(self) -> float:
        """Of all that this machine's cores could have done, 0 to 1; 0 where it was too short to tell by ticks."""
        seconds = time.monotonic() - self._began
        if seconds < SHORT:
            return 0.0
        used = (_busy() - self._busy) - (self._mine() - self._own)
        return min(1.0, max(0.0, used / _TICK / (seconds * (os.cpu_count() or 1))))

    def _mine(self) -> int:
        return sum(worked(pid) for pid in self._pids)


def load() -> dict[str, Any]:
    """Load averages, and of the last ten seconds the percentage in which a task waited for a processor, if known."""
    return {"load": list(os.getloadavg()), "pressure": _pressure()}


def _busy() -> int:
    """Ticks that all processors worked, stolen ones too: proc_stat(5)."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, file.readline().split()[1:9])
    return user + nice + system + irq + soft + steal


def _pressure() -> float | None:
    """avg10 of `some`: https://docs.kernel.org/accounting/psi.html."""
    words = (_text(Path("/proc/pressure/cpu")) or "").split()
    return next((float(word.partition("=")[2]) for word in words if word.startswith("avg10=")), None)


def _cpu() -> str | None:
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
