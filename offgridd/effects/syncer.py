"""Brings the hub's list of models into the catalogue, page by page: what is kept stays, wherever it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, HubFailure
from offgridd.core.search import Query
from offgridd.effects.catalog import Catalog, Known
from offgridd.effects.getting import told

if TYPE_CHECKING:
    from offgridd.effects.hub import HubClient
    from offgridd.effects.hub.search import Page

PAGE = 200  # models that are asked for at once: 50,000 take half of what the hub allows in five minutes
WHOLE = 30.0  # seconds for a page
PATIENCE = 90.0  # seconds that the hub may ask us to wait; for longer, the sync ends
TRIES = 3  # of one page, while the hub fails in passing
DOWN, AGAIN = 31.0, 5.0  # seconds until a hub that was away, or that failed, is asked again
EMPTY = 3  # pages without a model, one after the other
_AWAY = ("HubTimeout", "HubUnreachable")
_NO_ROOM = HubFailure(
    "StateNotWritable", "cannot keep what the hub lists: the state directory takes nothing; make room and sync again"
)
_NONE = HubFailure("Offline", "cannot ask a hub: offline is declared")


@dataclass(slots=True)
class _Walk:
    """`models` that were kept so far, of at most `limit`."""

    client: HubClient
    limit: int
    tell: Callable[[int, int], None]
    stop: threading.Event = field(default_factory=threading.Event)
    models: int = 0


class Syncer:
    """`client` gives the hub to ask, None where it is not to be asked."""

    def __init__(self, catalog: Catalog, client: Callable[[], HubClient | None]) -> None:
        self._catalog, self._client = catalog, client

    def known(self) -> Known:
        """Blocking."""
        return self._catalog.known()

    async def sync(self, query: Query, limit: int, tell: Callable[[int, int], None]) -> dict[str, Any]:
        """Keeps up to `limit` models that `query` asks the hub for, telling how many it has. Raises ActionFailed.

        Called off, it ends within a page; that page is not kept.
        """
        try:
            client = self._client()
        except HubError as error:
            raise _failed(error.failure, 0) from None
        if client is None:
            raise _failed(_NONE, 0)
        walk = _Walk(client, limit, tell)
        try:
            work = partial(told, partial(self._told, walk, query))
            more = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
            return {"models": walk.models, "more": more, "known": await anyio.to_thread.run_sync(self._catalog.count)}
        finally:
            walk.stop.set()

    def _told(self, walk: _Walk, query: Query) -> bool:
        """As `_walk`. Raises ActionFailed."""
        try:
            return self._walk(walk, query)
        except HubError as error:
            raise _failed(error.failure, walk.models) from None

    def _walk(self, walk: _Walk, query: Query) -> bool:
        """Whether the hub has more than the limit. Raises HubError."""
        from offgridd.effects.hub.search import first_page

        url: str | None = first_page(query, walk.client.endpoint, min(PAGE, walk.limit))
        empty, more = 0, False
        while url is not None and walk.models < walk.limit and not walk.stop.is_set():
            page = self._page(walk, url)
            if walk.stop.is_set():
                break
            hits = page.hits[: walk.limit - walk.models]
            if not self._catalog.keep(hits, time.time()):
                raise HubError(_NO_ROOM)
            walk.models += len(hits)
            walk.tell(walk.models, walk.limit)
            empty = 0 if hits else empty + 1
            if page.next == url or (empty == EMPTY and page.next):
                raise HubError(HubFailure("BadAnswer", "cannot go on: the hub's list of models has no end", True))
            url, more = page.next, page.next is not None or len(hits) < len(page.hits)
        return more

    def _page(self, walk: _Walk, url: str) -> Page:
        """Asked for again where that makes sense; the first one fails at once, for there somebody waits to know."""
        from offgridd.effects.hub.search import read_page

        left = TRIES
        while True:
            try:
                return read_page(walk.client, url, time.monotonic() + WHOLE)
            except HubError as error:
                failure, left = error.failure, left - 1
                pause = _pause(failure, first=walk.models == 0)
                if pause is None or left == 0 or walk.stop.wait(pause):
                    raise


def _pause(failure: HubFailure, *, first: bool) -> float | None:
    """Seconds to wait before asking again; None where that makes no sense."""
    limited = failure.reason == "RateLimited"
    if not failure.passing or (first and not limited):
        return None
    wait = failure.retry_after
    if wait is None:
        wait = DOWN if failure.reason in _AWAY else AGAIN
    return wait if wait <= PATIENCE else None


def _failed(failure: HubFailure, models: int) -> ActionFailed:
    later = f"; sync again in {failure.retry_after:.0f} s" if failure.retry_after else ""
    kept = f"; {models:,} models were kept" if models else ""
    return ActionFailed(Failure("Downloaded", failure.reason, failure.message + kept + later))
