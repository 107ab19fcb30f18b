"""How much of the time this process's threads want a core and have none: the kernel's own account of it."""

from __future__ import annotations

import os

EVERY = 0.1  # seconds between two looks


class Pressure:
    """`share` is of the newest look. `available` is False where the kernel keeps no account."""

    def __init__(self) -> None:
        self.share = 0.0
        self._at, self._waited = 0.0, _waited()
        self.available = self._waited is not None

    def look(self, now: float) -> float:
        """The share, 0 to 1 of a thread's time, that was spent in a queue for a core; looks at most every `EVERY`."""
        if self.available and now - self._at >= EVERY:
            waited = _waited() or {}
            before, spent = self._waited or {}, now - self._at
            # The thread that waited most: those that share the work all wait for it.
            most = max((waited[thread] - before.get(thread, waited[thread]) for thread in waited), default=0)
            self.share = min(1.0, most / 1e9 / spent) if self._at else 0.0
            self._at, self._waited = now, waited
        return self.share


def _waited() -> dict[str, int] | None:
    """By thread, nanoseconds in a queue since it began (the second field of its schedstat)."""
    found: dict[str, int] = {}
    try:
        for thread in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                    found[thread] = int(file.read().split()[1])
            except FileNotFoundError:
                continue  # it has just ended
    except (OSError, IndexError, ValueError):
        return None
    return found
