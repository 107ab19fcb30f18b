"""Where a file comes from: one request, and what its answer means for all connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.hub import Content, Target, open_content, seconds_to_wait
from offgridd.effects.transfer.pace import Crawl, Pace
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


@dataclass(frozen=True, slots=True)
class Options:
    connections: int = 8
    rate: float | None = None  # bytes a second
    crawl: Callable[[], Crawl] = Crawl


@dataclass(slots=True)
class Span:
    """What one connection fetches: bytes `at` to `end` are still to come."""

    at: int
    end: int
    failures: int = 0  # in a row, while `seen` did not change
    seen: int = -1  # bytes over all connections, when it failed last

    @property
    def left(self) -> int:
        return self.end - self.at


Taker = Callable[[Span, Content, Verdict], None]


class Server:
    """Shared by the threads of a fetch. `came` is called with each number of bytes that were written."""

    def __init__(self, part: Part, origin: Origin, options: Options, pace: Pace, came: Callable[[int], None]) -> None:
        self._part, self._origin, self._options, self._pace, self._came = part, origin, options, pace, came
        self._lock, self._locating = threading.Lock(), threading.Lock()
        self._target: Target | None = None
        self._bytes = 0  # that came so far

    def ask(self, span: Span, take: Taker) -> None:
        """One request, and what comes of it. Failures that may pass are counted, and waited after. Raises HubError."""
        self._pace.turn()
        before, failure = span.at, HubFailure("ContentStalled", "cannot fetch the file: its server is silent", True)
        if self._origin.offline():
            raise HubError(HubFailure("Offline", "cannot fetch the file: offline is declared"))
        try:
            target = self._locate()
            token = self._origin.token if target.direct else None
            with open_content(target.url, span.at, span.end, token) as content:
                take(span, content, self._look(content, span, target))
        except HubError as error:
            if not error.failure.passing:
                raise
            failure = error.failure
        if span.at == before and span.left:
            self._failed(span, failure)

    def _look(self, content: Content, span: Span, target: Target) -> Verdict:
        """Raises HubError where there is nothing to take."""
        verdict = judge(content.status, content.headers, span.at, span.end, self._part.pieces.size)
        if verdict is Verdict.RENEW:
            with self._lock:
                self._target = None if self._target is target else self._target
            text = f"cannot fetch the file: its server answers {content.status}"
            raise HubError(HubFailure("ContentRefused", text, True))
        if verdict is Verdict.WAIT:
            text = f"cannot fetch the file: its server answers {content.status}"
            raise HubError(HubFailure("ContentUnavailable", text, True, seconds_to_wait(content.headers)))
        return verdict

    def take(self, span: Span, content: Content) -> Iterator[int]:
        """Writes what comes; gives the number of bytes each time. Ends early where the connection is too slow."""
        crawl = self._options.crawl()
        for data in content.pieces:
            self._pace.check()
            if not span.left:  # more than was asked for; otherwise the end is read, and the connection kept
                return
            wanted = data[: span.left] if len(data) > span.left else data
            self._part.write(wanted, span.at)
            span.at += len(wanted)
            with self._lock:
                self._bytes += len(wanted)
            self._came(len(wanted))
            yield len(wanted)
            if span.left and crawl.too_slow(len(data)):
                return
            self._pace.took(len(wanted))

    def _failed(self, span: Span, failure: HubFailure) -> None:
        """Waits before the next request. Raises HubError where it makes no sense to go on."""
        with self._lock:
            span.failures = span.failures + 1 if span.seen == self._bytes else 1
            span.seen = self._bytes
        wait = failure.retry_after
        if span.failures >= TRIES or (wait is not None and wait > LONGEST_WAIT):
            raise HubError(failure)
        if wait is not None:
            self._pace.pause(wait)
        else:
            self._pace.sleep(min(MOST_PAUSE, FIRST_PAUSE * 2 ** (span.failures - 1)))

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
