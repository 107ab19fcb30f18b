"""Until when a hub wants to be left alone: it said 429, and means all that we ask of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Gate:
    """One for each hub, shared by its questions and its transfers. For any thread."""

    clock: Callable[[], float] = time.monotonic
    _until: float = field(default=0.0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self, seconds: float) -> None:
        """Nobody asks for anything for so long; a longer wait that was said before stays."""
        with self._lock:
            self._until = max(self._until, self.clock() + seconds)

    def left(self) -> float:
        """Seconds that it is still closed."""
        return max(0.0, self._until - self.clock())
