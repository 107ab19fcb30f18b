"""What a worker takes of the machine's memory, as the kernel counts it."""

from __future__ import annotations

from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes. `own`: of this process alone, in memory or swapped out; `mapped`: pages of files that are in memory."""

    own: int
    mapped: int


class Usage:
    """Begun before the model is loaded: what is mapped from then on are its weights, and little else."""

    def __init__(self) -> None:
        self._before = _read().mapped
        self.peak = 0  # the most of our own that any look has seen

    def look(self) -> Memory:
        """Takes 0.05 ms. What is taken and given back between two looks is not seen."""
        own, mapped = _read()
        self.peak = max(self.peak, own)
        return Memory(own, max(0, mapped - self._before))


def _read() -> Memory:
    with open("/proc/self/status") as status:
        sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in status)
                 if name in ("RssAnon", "RssShmem", "VmSwap", "RssFile")}  # fmt: skip
    return Memory(sum(size for name, size in sizes.items() if name != "RssFile"), sizes.get("RssFile", 0))
