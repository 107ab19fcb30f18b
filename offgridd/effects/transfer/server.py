"""Where a file comes from: one request, and what its answer means for all connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from offgridd.core.hub import HubError, HubFailure
from offgridd.core.sizes import show_size
from offgridd.effects.hub import Content, Gate, Target, Wires, seconds_to_wait
from offgridd.effects.transfer.pace import Crawl, Limits, Pace
from offgridd.effects.transfer.part import Part
from offgridd.effects.transfer.verdict import Verdict, judge

TRIES = 6  # of a connection in a row, while no byte came over any
FIRST_PAUSE, MOST_PAUSE = 0.25, 8.0  # seconds after a failure: doubled each time
LONGEST_WAIT = 120.0  # seconds that a server may ask us to wait; longer is for whoever asked for the file


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file is fetched from. `locate` asks the hub where its bytes are now; raises HubError."""

    locate: Callable[[], Target]
    token: str | None = None
    name: str = ""  # for people: the hub and the repository
    offline: Callable[[], bool] = lambda: False  # asked before each request
    gate: Gate = field(default_factory=Gate)  # of the hub


class TooSlow(HubError):
    """All connections together bring less than one of them has to. It may pass; not now."""


@dataclass(slots=True)
class Span:
    """What one connection fetches: bytes `at` to `end` are still to come."""

    at: int
    end: int
    start: int = field(init=False)
    failures: int = 0  # in a row, while `seen` did not change
    seen: int = -1  # bytes over all connections, when it failed last

    def __post_init__(self) -> None:
        self.start = self.at

    @property
    def left(self) -> int:
        return self.end - self.at


Taker = Callable[[Span, Content, Verdict], None]


class Server:
    """Shared by the threads of a fetch. `came` is called with each number of bytes that were written."""

    def __init__(
        self, part: Part, origin: Origin, limits: Callable[[], Limits], pace: Pace, came: Callable[[int], None]
    ) -> None:
        self._part, self._origin, self._limits, self._pace, self._came = part, origin, limits, pace, came
        self._lock, self._locating = threading.Lock(), threading.Lock()
        self._target: Target | None = None
        self._bytes = 0  # that came so far
        self._wires = Wires()
        self._gate = Gate()  # of this transfer alone: its server is busy
        now = limits()
        self._watch = Crawl(now.least, 2 * now.within)  # a connection that crawls is made anew first

    def cut(self) -> None:
        """Ends all connections, whatever comes over them. Later requests have new ones."""
        wires, self._wires = self._wires, Wires()
        wires.close()

    def ask(self, span: Span, take: Taker) -> None:
        """One request, and what comes of it. Failures that may pass are counted, and waited after. Raises HubError."""
        before, failure = span.at, HubFailure("ContentStalled", "cannot fetch the file: its server is silent", True)
        self._turn()
        if self._origin.offline():
            raise HubError(HubFailure("Offline", "cannot fetch the file: offline is declared"))
        try:
            target = self._locate()
            token = self._origin.token if target.direct else None
            with self._wires.open(target.url, span.at, span.end, token) as content:
                take(span, content, self._look(content, span, target))
        except HubError as error:
            if not error.failure.passing or isinstance(error, TooSlow):
                raise
            failure = error.failure
        if span.at == before and span.left:
            self._failed(span, failure)

    def _turn(self) -> None:
        """Waits until the server may be asked. Raises Stopped, and HubError where that is too long."""
        self._pace.check()
        while (left := max(self._gate.left(), self._origin.gate.left())) > 0:
            if left > LONGEST_WAIT:
                text = f"cannot fetch the file: its hub wants to be left alone for {left:.0f} s"
                raise HubError(HubFailure("RateLimited", text, True, left))
            self._pace.sleep(left)
            self._watch.begin()

    def _look(self, content: Content, span: Span, target: Target) -> Verdict:
        """Raises HubError where there is nothing to take."""
        verdict = judge(content.status, content.headers, span.at, span.end, self._part.pieces.size)
        if verdict is Verdict.RENEW:
            with self._lock:
                self._target = None if self._target is target else self._target
            text = f"cannot fetch the file: its server answers {content.status}"
            raise HubError(HubFailure("ContentRefused", text, True))
        if verdict is Verdict.WAIT:
            reason = "RateLimited" if content.status == 429 else "ContentUnavailable"
            text = f"cannot fetch the file: its server answers {content.status}"
            raise HubError(HubFailure(reason, text, True, seconds_to_wait(content.headers)))
        return verdict

    def take(self, span: Span, content: Content) -> Iterator[int]:
        """Writes what comes; gives the number of bytes each time. Ends early where the connection is too slow."""
        now = self._limits()
        crawl = Crawl(now.least, now.within)
        for data in content.pieces:
            self._pace.check()
            if not span.left:  # more than was asked for; otherwise the end is read, and the connection kept
                return
            wanted = data[: span.left] if isinstance(data, bytes) and len(data) > span.left else data
            self._part.write(wanted, span.at)
            span.at += len(wanted)
            self._heard(len(wanted))
            yield len(wanted)
            if span.left and crawl.too_slow(len(data)):
                return
            self._pace.took(len(wanted))

    def _heard(self, count: int) -> None:
        """So many bytes were written. Raises TooSlow."""
        self._came(count)
        with self._lock:
            self._bytes += count
            slow = self._watch.too_slow(count)
        if slow:
            least = f"{show_size(round(self._watch.least / self._watch.within * 2))} a second"
            text = f"cannot fetch the file: it comes more slowly than {least}; lower store.min_rate, or try later"
            raise TooSlow(HubFailure("TooSlow", text, True))

    def _failed(self, span: Span, failure: HubFailure) -> None:
        """Waits before the next request. Raises HubError where it makes no sense to go on."""
        with self._lock:
            span.failures = span.failures + 1 if span.seen == self._bytes else 1
            span.seen = self._bytes
        wait = failure.retry_after
        pause = min(MOST_PAUSE, FIRST_PAUSE * 2 ** (span.failures - 1)) if wait is None else wait
        if failure.reason == "RateLimited":
            self._origin.gate.close(pause)
        if span.failures >= TRIES or pause > LONGEST_WAIT:
            raise HubError(failure)
        if wait is not None:
            self._gate.close(wait)
        elif failure.reason != "RateLimited":
            self._pace.sleep(pause)

    def _locate(self) -> Target:
        """Where the bytes are: asked once for all connections. Raises HubError."""
        with self._locating:
            with self._lock:
                target = self._target
            if target is None:
                target = self._origin.locate()
                if target.size != self._part.pieces.size:
                    text = f"cannot fetch the file: it has {target.size} bytes now, not {self._part.pieces.size}"
                    raise HubError(HubFailure("ContentDiffers", text))
                with self._lock:
                    self._target = target
            return target
