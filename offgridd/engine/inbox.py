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
from typing import NamedTuple

from offgridd.engine.link import Link
from offgridd.engine.prepare import Prepared, Preparer
from offgridd.engine.wire import Abort, CacheLimit, Chat, Refused, WireError, to_worker

_BROKEN_PEER = _BUG = 70  # EX_SOFTWARE


class Arrival(NamedTuple):
    """A request that is ready for the queue; `at` is when its frame came (monotonic seconds)."""

    chat: Chat
    prepared: Prepared
    at: float


class Inbox:
    """`abort` stops the present decode, `arm` takes that back; `closed` is called when the daemon is gone."""

    def __init__(self, link: Link, preparer: Preparer, abort: Callable[[], None], arm: Callable[[], None]) -> None:
        self._link, self._preparer, self._abort, self._arm = link, preparer, abort, arm
        self._items: queue.SimpleQueue[Arrival | Abort | CacheLimit] = queue.SimpleQueue()
        self._chats: queue.SimpleQueue[tuple[Chat, float]] = queue.SimpleQueue()
        self._gone: set[int] = set()  # aborted before they arrived, or long finished: ids are never used again
        self._decoding: int | None = None
        self._flag_lock = threading.Lock()

    def open(self, closed: Callable[[], None]) -> None:
        """Begins to read."""
        threading.Thread(target=self._read, args=[closed], daemon=True).start()
        threading.Thread(target=self._prepare, daemon=True).start()

    def take(self, *, wait: bool) -> Iterator[Arrival | Abort | CacheLimit]:
        """All that is there; with `wait`, at least one."""
        while True:
            try:
                yield self._items.get(block=wait)
            except queue.Empty:
                return
            wait = False

    def gone(self, request: int) -> bool:
        """Whether it was aborted before it arrived; asked once."""
        if request in self._gone:
            self._gone.discard(request)
            return True
        return False

    def forget(self, request: int) -> None:
        """It was aborted, and is not here: it is still being prepared, or long finished."""
        self._gone.add(request)
        if len(self._gone) > 4096:
            self._gone.clear()

    @contextmanager
    def decoding(self, alone: int | None) -> Iterator[None]:
        """Within the block an Abort of the request that is `alone` in the decode stops it."""
        with self._flag_lock:
            self._arm()
            self._decoding = alone
        try:
            yield
        finally:
            with self._flag_lock:
                self._decoding = None

    def _read(self, closed: Callable[[], None]) -> None:
        try:
            while (body := self._link.receive()) is not None:
                frame = to_worker(body)
                if isinstance(frame, Chat):
                    self._chats.put((frame, time.monotonic()))
                elif isinstance(frame, Abort | CacheLimit):
                    self._items.put(frame)
                    with self._flag_lock:
                        if isinstance(frame, Abort) and self._decoding == frame.id:
                            self._abort()
        except WireError:
            traceback.print_exc()
            os._exit(_BROKEN_PEER)
        closed()

    def _prepare(self) -> None:
        try:
            while True:
                chat, at = self._chats.get()
                made = Prepared([]) if chat.id in self._gone else self._preparer.prepare(chat)
                if isinstance(made, Refused):
                    self._link.send(made)
                else:
                    self._items.put(Arrival(chat, made, at))
        except BaseException:
            # A bug. Without this thread every later request would wait for ever; the daemon starts another worker.
            traceback.print_exc()
            os._exit(_BUG)
