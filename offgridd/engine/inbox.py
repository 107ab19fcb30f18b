"""What arrives for the engine's loop. One thread reads frames and raises the abort flag, a second prepares prompts.

Both only put things into one queue, so that no stream waits for a template, a tokeniser or a grammar.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from offgridd.engine.fair import FairQueue
from offgridd.engine.inputs import Texts
from offgridd.engine.link import Link
from offgridd.engine.prepare import Prepared
from offgridd.engine.shelffile import Saved
from offgridd.engine.wire import (
    Abort,
    Bench,
    CacheLimit,
    Chat,
    Embed,
    Leave,
    Refused,
    Request,
    Score,
    ToWorker,
    to_worker,
)  # fmt: skip

_EX_SOFTWARE = 70  # a peer that breaks the format, or a bug of ours
UNPREPARED = 96  # requests that may wait to be prepared


class Asked(NamedTuple):
    """A request as it came; `at` is when (monotonic seconds)."""

    chat: Request
    at: float

    @property
    def id(self) -> int:
        return self.chat.id

    @property
    def client(self) -> str:
        return self.chat.client


class Arrival(NamedTuple):
    """A request that is ready for the queue; `prepared` is None where it was aborted before."""

    asked: Asked
    prepared: Prepared | Texts | None


class Preparing(Protocol):
    def prepare(self, asked: Request, /) -> Prepared | Texts | Refused: ...


class Brought(NamedTuple):
    """What was read from disk of a request's beginning."""

    request: int
    found: list[Saved]


Item = Arrival | Brought | Refused | Abort | CacheLimit | Bench | Score


def queue_full(request: int) -> Refused:
    text = "cannot queue the request: too many wait for this model; try again"
    return Refused(request, 429, "queue_full", text, retry_after=2)


class Inbox:
    """`abort` stops the present decode, `arm` takes that back; `closed` is called when the daemon is gone."""

    def __init__(self, link: Link, preparer: Preparing, abort: Callable[[], None], arm: Callable[[], None]) -> None:
        self._link, self._preparer, self._abort, self._arm = link, preparer, abort, arm
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._unprepared = FairQueue[Asked](UNPREPARED)
        self._more = threading.Condition()  # guards it
        self._coming: set[int] = set()  # read, and not handed over yet
        self._gone: set[int] = set()  # of those, the aborted ones
        self._decoding: int | None = None
        self._yields = False  # the present decode is of a measurement
        self._flag_lock = threading.Lock()

    def open(self, closed: Callable[[], None]) -> None:
        """Begins to read."""
        threading.Thread(target=self._read, args=[closed], daemon=True).start()
        threading.Thread(target=self._prepare, daemon=True).start()

    def bring(self, request: int, found: list[Saved]) -> None:
        self._items.put(Brought(request, found))

    def take(self, *, wait: bool, most: float | None = None) -> Iterator[Item]:
        """All that is there; with `wait`, at least one, or none within `most` seconds."""
        while True:
            try:
                item = self._items.get(block=wait, timeout=most)
            except queue.Empty:
                return
            wait = False
            if isinstance(item, Arrival):
                item = self._hand_over(item)
            yield item

    def _hand_over(self, arrival: Arrival) -> Arrival:
        request = arrival.asked.id
        gone = request in self._gone
        self._gone.discard(request)
        self._coming.discard(request)
        return Arrival(arrival.asked, None) if gone else arrival

    def forget(self, request: int) -> None:
        """It was aborted, and has not been handed over: it is still to come, or long finished."""
        if request in self._coming:
            self._gone.add(request)

    @contextmanager
    def decoding(self, alone: int | None, *, yields: bool = False) -> Iterator[None]:
        """An Abort of the request that is `alone` in the decode stops it; where it `yields`, a Chat does."""
        with self._flag_lock:
            self._arm()
            self._decoding, self._yields = alone, yields
        try:
            yield
        finally:
            with self._flag_lock:
                self._decoding, self._yields = None, False

    def _read(self, closed: Callable[[], None]) -> None:
        try:
            while (body := self._link.receive()) is not None and not isinstance(frame := to_worker(body), Leave):
                self._sort(frame)
        except BaseException:
            # A peer that breaks the format, or a bug. Without this thread every request would wait for ever.
            traceback.print_exc()
            os._exit(_EX_SOFTWARE)
        closed()

    def _sort(self, frame: ToWorker) -> None:
        if isinstance(frame, Chat | Embed):
            self._coming.add(frame.id)
            with self._more:
                if self._unprepared.put(Asked(frame, time.monotonic())):
                    self._more.notify()
                else:
                    self._coming.discard(frame.id)
                    self._items.put(queue_full(frame.id))
            with self._flag_lock:
                if self._yields:
                    self._abort()
        elif isinstance(frame, Abort | CacheLimit | Bench | Score):
            self._items.put(frame)
            with self._flag_lock:
                if isinstance(frame, Abort) and self._decoding == frame.id:
                    self._abort()

    def _prepare(self) -> None:
        try:
            while True:
                with self._more:
                    self._more.wait_for(lambda: len(self._unprepared) > 0)
                    asked = self._unprepared.take()
                made = None if asked.id in self._gone else self._preparer.prepare(asked.chat)
                if isinstance(made, Refused):
                    self._coming.discard(asked.id)
                    self._items.put(made)
                else:
                    self._items.put(Arrival(asked, made))
        except BaseException:
            traceback.print_exc()
            os._exit(_EX_SOFTWARE)
