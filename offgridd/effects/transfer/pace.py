"""How fast, and when: a limit over all connections, a pause that all keep, and a watch over one that crawls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


class Stopped(Exception):
    """The transfer was cancelled, or another of its threads has failed."""


class Pace:
    """Shared by the threads of a transfer. `rate` in bytes a second of all of them; None = as fast as it goes."""

    def __init__(self, rate: float | None = None, clock: Clock = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._free_at = clock()  # when what was taken so far is paid for
        self._stop = threading.Event()
        self._until = 0.0

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def go_on(self) -> None:
        """After a stop, once everybody has stopped."""
        self._stop.clear()

    def check(self) -> None:
        """Raises Stopped."""
        if self._stop.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Raises Stopped, at once when it comes to that."""
        if self._stop.wait(seconds):
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Nobody asks the server for anything for so long."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)

    def turn(self) -> None:
        """Waits until the server may be asked again. Raises Stopped."""
        self.check()
        while (left := self._until - self._clock()) > 0:
            self.sleep(left)

    def took(self, count: int) -> None:
        """Waits as long as `count` bytes take at the limit. Raises Stopped."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now) + count / self._rate
            wait = self._free_at - now
        self.sleep(wait)


@dataclass(slots=True)
class Crawl:
    """Watches one connection: fewer than `least` bytes within `within` seconds is too slow to wait for."""

    least: int = 60 << 10
    within: float = 60.0
    clock: Clock = time.monotonic
    _since: float = 0.0
    _came: int = 0

    def __post_init__(self) -> None:
        self._since = self.clock()

    def too_slow(self, count: int) -> bool:
        """`count` bytes have come."""
        self._came += count
        now = self.clock()
        if now - self._since < self.within:
            return False
        slow = self._came < self.least
        self._since, self._came = now, 0
        return slow
