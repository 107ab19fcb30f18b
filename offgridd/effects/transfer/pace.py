"""How fast: a limit over all connections, which may change, and a watch over what crawls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
LOOK = 0.5  # seconds after which a limit is looked at again that somebody waits for


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one transfer; what is declared may change while it goes on."""

    connections: int = 8
    rate: float | None = None  # bytes a second of all connections; None = as fast as it goes
    min_rate: float = 1024.0  # bytes a second of one connection, over `within` seconds; what is slower is made anew
    within: float = 60.0

    @property
    def least(self) -> float:
        """Bytes that a connection has to bring `within`: fewer, where our own limit makes it slow."""
        fair = self.min_rate if self.rate is None else min(self.min_rate, self.rate / self.connections / 2)
        return fair * self.within


class Stopped(Exception):
    """The transfer was cancelled, or another of its threads has failed."""


class Pace:
    """Shared by the threads of a transfer; `rate` is asked for each time."""

    def __init__(self, rate: Callable[[], float | None] = lambda: None, clock: Clock = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock = threading.Lock()
        self._taken, self._paid, self._looked = 0, 0.0, clock()  # bytes, bytes whose time has come, and when that was
        self._stop = threading.Event()

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

    def took(self, count: int) -> None:
        """Waits as long as `count` bytes take at the limit. Raises Stopped."""
        self._left(0)
        with self._lock:
            self._taken += count
            mark = self._taken
        while (left := self._left(mark)) > 0:
            self.sleep(min(left, LOOK))

    def _left(self, mark: int) -> float:
        """Seconds until so many bytes are paid for. Time in which nobody took anything pays for nothing."""
        rate = self._rate()
        with self._lock:
            now = self._clock()
            more = float(self._taken) if rate is None else (now - self._looked) * rate
            self._paid, self._looked = min(float(self._taken), self._paid + more), now
            return 0.0 if rate is None else (mark - self._paid) / rate


@dataclass(slots=True)
class Crawl:
    """Watches what comes: fewer than `least` bytes within `within` seconds is too slow to wait for."""

    least: float
    within: float
    clock: Clock = time.monotonic
    _since: float = 0.0
    _came: int = 0

    def __post_init__(self) -> None:
        self._since = self.clock()

    def too_slow(self, count: int) -> bool:
        """`count` bytes have come."""
        self._came += count
        if self.clock() - self._since < self.within:
            return False
        slow = self._came < self.least
        self.begin()
        return slow

    def begin(self) -> None:
        """Nothing that was before counts: nobody was to bring anything."""
        self._since, self._came = self.clock(), 0
