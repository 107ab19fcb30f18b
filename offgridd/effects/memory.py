"""How much memory this machine lets us have."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def total_memory() -> int | None:
    """Bytes: the smaller of MemTotal and the limits of our cgroup and those above it; None where nothing tells."""
    found = [size for size in (_mem_total(), *_limits()) if size is not None]
    return min(found, default=None)


def _mem_total() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def _limits() -> list[int | None]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::")).strip("/")
    except (OSError, StopIteration):
        return []
    folder = _CGROUP / path
    return [_limit(one / "memory.max") for one in (folder, *folder.parents) if one.is_relative_to(_CGROUP)]


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
