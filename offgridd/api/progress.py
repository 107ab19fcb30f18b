"""How far each model's download is: for status. Written from the threads that fetch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SPAN = 5.0  # seconds over which the speed is taken


@dataclass(slots=True)
class Fetched:
    """Of one model. `since` and `before` are what the speed is counted from: when, and how many bytes were here."""

    here: int
    size: int
    since: float
    before: int
    rate: float = 0.0  # bytes a second

    def shown(self) -> dict[str, Any]:
        left = (self.size - self.here) / self.rate if self.rate else None
        seconds = None if left is None else round(left, 1)
        return {"bytes": self.here, "size": self.size, "bytesPerSecond": round(self.rate), "secondsLeft": seconds}


class Progress:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.models: dict[str, Fetched] = {}

    def note(self, model: str, here: int, size: int) -> None:
        """So many bytes of `size` are here; both 0: it is over."""
        now, found = self._clock(), self.models.get(model)
        if not size:
            self.models.pop(model, None)
        elif found is None or found.size != size:
            self.models[model] = Fetched(here, size, now, here)
        else:
            found.here = here
            if now - found.since >= SPAN or (not found.rate and now > found.since):
                found.rate = (here - found.before) / (now - found.since)
            if now - found.since >= SPAN:
                found.since, found.before = now, here

    def shown(self, model: str) -> dict[str, Any] | None:
        found = self.models.get(model)
        return found.shown() if found else None
