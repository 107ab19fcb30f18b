"""What this machine's processor can do."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def features() -> frozenset[str]:
    """The words of /proc/cpuinfo, such as avx2 or asimddp; empty where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())
