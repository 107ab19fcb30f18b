"""Fetches a file into a part, over several connections. Blocking: call it in a thread; any thread may stop it.

Each thread takes the next piece and asks for its bytes; what breaks off goes on where it stopped, with a new request.
One more thread hashes the completed beginning as it grows, so that hashing costs no time at the end.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable

from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.hub import Content
from offgridd.effects.transfer.pace import Pace, Stopped
from offgridd.effects.transfer.part import Part
from offgridd.effects.transfer.server import Options, Origin, Server, Span
from offgridd.effects.transfer.verdict import Verdict

HUGE = 50_000_000_000  # bytes: the hub serves larger files by parts only, or by its own protocol
WHOLE_TRIES = 5  # from a server that knows no ranges, which has to begin anew each time
_HASHED_AT_ONCE = 4 << 20


class _NoRanges(Exception):
    """The server sends the whole file, whatever is asked for."""


class Fetch:
    """One run for one part. `came` is called with each number of bytes that were written, in any thread."""

    def __init__(self, part: Part, origin: Origin, options: Options, came: Callable[[int], None]) -> None:
        self._part, self._name, self._connections = part, origin.name, options.connections
        self._pace = Pace(options.rate)
        self._server = Server(part, origin, options, self._pace, came)
        self._more = threading.Condition()  # guards the pieces and all below
        self._rounds = 0  # how often everything was begun anew
        self._error: BaseException | None = None
        self._cancelled = False

    def stop(self) -> None:
        """`run` raises Stopped soon. For any thread, at any time."""
        self._cancelled = True
        self._halt()

    def _halt(self) -> None:
        self._pace.stop()
        with self._more:
            self._more.notify_all()

    def run(self) -> str:
        """The sha256 of the whole file, once all of it is here. Raises HubError, OSError, Stopped."""
        left = self._part.pieces.count - len(self._part.pieces.done)
        try:
            return self._hashed(self._pieces, min(self._connections, max(1, left)))
        except _NoRanges:
            if self._part.pieces.size > HUGE:
                text = "cannot fetch the file: its server sends no parts of it, and it is too large to come in one"
                raise HubError(HubFailure("NeedsXet", text)) from None
        self._error = None
        self._pace.go_on()
        if self._cancelled:
            raise Stopped
        return self._hashed(self._whole, 1)

    def _hashed(self, work: Callable[[], None], threads: int) -> str:
        """Runs `work` in so many threads while this one hashes what is complete."""
        digest = ""
        running: list[threading.Thread] = []
        try:
            for _ in range(threads):
                thread = threading.Thread(target=self._guarded, args=[work], daemon=True)
                thread.start()  # may fail where threads are limited: those before it have to end all the same
                running.append(thread)
            digest = self._hash()
        except BaseException as error:
            self._fail(error)
        for thread in running:
            thread.join()
        if self._error is not None:
            raise self._error
        return digest

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._more:
            if self._error is None or isinstance(self._error, Stopped):
                self._error = error
        self._halt()

    def _hash(self) -> str:
        """The sha256 of the file, which it follows as its beginning grows."""
        digest, at, round_ = hashlib.sha256(), 0, 0
        while True:
            prefix, now = self._grown(at, round_)
            if now != round_:  # what was hashed may be written over with something else
                digest, at, round_ = hashlib.sha256(), 0, now
            elif at == prefix:
                return digest.hexdigest()
            else:
                data = os.pread(self._part.fd, min(_HASHED_AT_ONCE, prefix - at), at)
                if not data:
                    raise OSError("the part became shorter while it was hashed")
                digest.update(data)
                at += len(data)

    def _grown(self, at: int, round_: int) -> tuple[int, int]:
        """Waits for bytes behind `at`, a new round, or the end; gives the completed beginning and the round."""
        with self._more:
            pieces = self._part.pieces
            self._more.wait_for(
                lambda: pieces.prefix > at or self._rounds != round_ or pieces.complete or self._pace.stopped
            )
            self._pace.check()
            return pieces.prefix, self._rounds

    def _pieces(self) -> None:
        """The work of a thread: one piece after the other."""
        while (number := self._next()) is not None:
            span = Span(*self._part.pieces.span(number))
            try:
                while span.left:
                    self._server.ask(span, self._take_part)
            except BaseException:
                with self._more:
                    self._part.pieces.give_back(number)
                raise
            self._finish(number)

    def _whole(self) -> None:
        """The work of the one thread where the server knows no ranges. What breaks off begins anew. Raises HubError."""
        pieces = self._part.pieces
        span = Span(0, pieces.size)
        for _ in range(WHOLE_TRIES):
            with self._more:
                pieces.forget()
                self._part.save()
                self._rounds += 1
            span.at = 0
            self._server.ask(span, self._take_all)
            if pieces.complete:
                return
        text = f"cannot fetch the file: it broke off {WHOLE_TRIES} times, and its server sends no parts of it"
        raise HubError(HubFailure("ContentStalled", text, True))

    def _next(self) -> int | None:
        """Waits for a piece to fetch; None when there will be none."""
        with self._more:
            while not self._part.pieces.complete and not self._pace.stopped:
                number = self._part.pieces.take()
                if number is not None:
                    return number
                self._more.wait()
        return None

    def _finish(self, number: int) -> None:
        self._part.sync()
        with self._more:
            self._part.pieces.finish(number)
            self._part.save((self._name,))
            self._more.notify_all()

    def _take_part(self, span: Span, content: Content, verdict: Verdict) -> None:
        if verdict is Verdict.WHOLE:
            raise _NoRanges
        for _ in self._server.take(span, content):
            pass

    def _take_all(self, span: Span, content: Content, _verdict: Verdict) -> None:
        number, pieces = 0, self._part.pieces
        for _ in self._server.take(span, content):
            while number < pieces.count and span.at >= pieces.span(number)[1]:
                self._finish(number)
                number += 1
