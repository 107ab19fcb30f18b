"""Fetches a file into a part, over several connections. Blocking: call it in a thread; any thread may stop it.

Each thread takes the next bytes and asks for them; what breaks off goes on where it stopped, with a new request. There
are as many threads as are declared now: some are started, or end, between two requests. One more hashes the beginning
as it grows, so that hashing costs no time at the end.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable

from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.hub import Content
from offgridd.effects.transfer.pace import Limits, Pace, Stopped
from offgridd.effects.transfer.part import Part
from offgridd.effects.transfer.server import Origin, Server, Span
from offgridd.effects.transfer.verdict import Verdict

HUGE = 50_000_000_000  # bytes: the hub serves larger files by parts only, or by its own protocol
WHOLE_TRIES = 5  # from a server that knows no ranges, which has to begin anew each time
_HASHED_AT_ONCE = 512 << 10  # bytes: they stay in the processor's cache


class _NoRanges(Exception):
    """The server sends the whole file, whatever is asked for."""


class Fetch:
    """One run for one part. `limits` is asked as it goes; `came` is called with each number of bytes that were written,
    in any thread."""

    def __init__(
        self, part: Part, origin: Origin, limits: Callable[[], Limits], came: Callable[[int], None] = lambda count: None
    ) -> None:
        self._part, self._name, self._limits = part, origin.name, limits
        self._pace = Pace(lambda: limits().rate)
        self._server = Server(part, origin, limits, self._pace, came)
        lock = threading.Lock()  # guards the pieces and all below
        self._more, self._grew = threading.Condition(lock), threading.Condition(lock)  # to fetch; to hash
        self._work: Callable[[], None] = self._pieces
        self._crew: set[threading.Thread] = set()  # who fetches now
        self._started: list[threading.Thread] = []
        self._enough = 0  # bytes from the beginning that the hasher waits for: it is not woken for few
        self._rounds = 0  # how often everything was begun anew
        self._error: BaseException | None = None
        self._cancelled = False
        self._saving = threading.Lock()
        self._saved = 0  # pieces in the map

    def stop(self) -> None:
        """`run` raises Stopped soon. For any thread, at any time."""
        self._cancelled = True
        self._halt()

    def _halt(self) -> None:
        self._pace.stop()
        self._server.cut()  # a thread may be waiting for bytes
        with self._more:
            self._more.notify_all()
            self._grew.notify_all()

    def run(self) -> str:
        """The sha256 of the whole file, once all of it is here. Raises HubError, OSError, Stopped."""
        try:
            return self._hashed()
        except _NoRanges:
            if self._part.pieces.size > HUGE:
                text = "cannot fetch the file: its server sends no parts of it, and it is too large to come in one"
                raise HubError(HubFailure("NeedsXet", text)) from None
        self._error, self._work = None, self._whole
        self._pace.go_on()
        if self._cancelled:
            raise Stopped
        return self._hashed()

    def _hashed(self) -> str:
        """Has threads do the work while this one hashes what is complete."""
        digest = ""
        try:
            with self._more:
                self._fill(1)
            digest = self._hash()
        except BaseException as error:
            self._fail(error)
        while self._started:
            self._started.pop().join()
        self._server.cut()
        if self._error is not None:
            raise self._error
        return digest

    def _fill(self, wanted: int) -> None:
        """Starts threads until there are so many. Where threads are limited, those that there are go on alone."""
        while len(self._crew) < wanted:
            thread = threading.Thread(target=self._guarded, daemon=True)
            self._crew.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._crew.discard(thread)
                if self._crew:
                    return
                raise
            self._started.append(thread)

    def _guarded(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._fail(error)
        finally:
            with self._more:
                self._crew.discard(threading.current_thread())

    def _fail(self, error: BaseException) -> None:
        with self._more:
            if self._error is None or isinstance(self._error, Stopped):
                self._error = error
        self._halt()

    def _hash(self) -> str:
        """The sha256 of the file, which it follows as its beginning grows."""
        digest, at, round_ = hashlib.sha256(), 0, 0
        data = memoryview(bytearray(_HASHED_AT_ONCE))
        while True:
            prefix, now = self._grown(at, round_)
            if now != round_:  # what was hashed may be written over with something else
                digest, at, round_ = hashlib.sha256(), 0, now
            elif at == prefix:
                return digest.hexdigest()
            else:
                count = os.preadv(self._part.fd, [data[: prefix - at]], at)
                if not count:
                    raise OSError("the part became shorter while it was hashed")
                digest.update(data[:count])
                at += count

    def _grown(self, at: int, round_: int) -> tuple[int, int]:
        """Waits for enough bytes behind `at`, a new round, or the end; gives the completed beginning and the round."""
        with self._grew:
            pieces = self._part.pieces
            self._enough = min(at + _HASHED_AT_ONCE, pieces.size)
            self._grew.wait_for(
                lambda: pieces.prefix >= self._enough or self._rounds != round_ or pieces.complete or self._pace.stopped
            )
            self._pace.check()
            return pieces.prefix, self._rounds

    def _pieces(self) -> None:
        """The work of a thread: some bytes after the other."""
        while (taken := self._next()) is not None:
            span = Span(*taken)
            while span.left:
                self._server.ask(span, self._take_part)
            with self._more:
                number = self._part.pieces.came(*taken)
            if number is not None:
                self._finish(number)

    def _whole(self) -> None:
        """The work of the one thread where the server knows no ranges. What breaks off begins anew. Raises HubError."""
        pieces = self._part.pieces
        span = Span(0, pieces.size)
        for _ in range(WHOLE_TRIES):
            with self._more:
                pieces.forget()
                self._part.save(())
                self._saved = 0
                self._rounds += 1
                self._grew.notify_all()
            span.at = 0
            self._server.ask(span, self._take_all)
            if pieces.complete:
                return
        text = f"cannot fetch the file: it broke off {WHOLE_TRIES} times, and its server sends no parts of it"
        raise HubError(HubFailure("ContentStalled", text, True))

    def _next(self) -> tuple[int, int] | None:
        """Waits for bytes to fetch; None when there will be none, or there are more threads than are declared now."""
        with self._more:
            pieces = self._part.pieces
            while not pieces.complete and not self._pace.stopped:
                wanted = self._limits().connections
                if len(self._crew) > wanted:
                    self._crew.discard(threading.current_thread())
                    return None
                taken = pieces.take(wanted)
                if taken is not None:
                    self._fill(min(wanted, len(self._crew) + pieces.shares))
                    return taken
                self._more.wait()
        return None

    def _finish(self, number: int) -> None:
        """A piece is here: it counts once it is synced and the map says so. Threads that come together share a map."""
        self._part.sync()
        with self._more:
            self._part.pieces.finish(number)
            mark = len(self._part.pieces.done)
            self._more.notify_all()
            self._grew.notify_all()
        with self._saving:
            if self._saved < mark:
                with self._more:
                    done = set(self._part.pieces.done)
                self._part.save(done, (self._name,))
                self._saved = len(done)

    def _take_part(self, span: Span, content: Content, verdict: Verdict) -> None:
        if verdict is Verdict.WHOLE:
            raise _NoRanges
        for _ in self._server.take(span, content):
            with self._grew:
                self._part.pieces.reach(span.start, span.at)
                if self._part.pieces.prefix >= self._enough:
                    self._grew.notify_all()

    def _take_all(self, span: Span, content: Content, _verdict: Verdict) -> None:
        number, pieces = 0, self._part.pieces
        for _ in self._server.take(span, content):
            while number < pieces.count and span.at >= pieces.span(number)[1]:
                self._finish(number)
                number += 1
