"""GET /v1/catalog: what is known of the hub's models without asking it; POST /v1/catalog/sync: know more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Report
from offgridd.api.search import text_of
from offgridd.core.errors import RequestRefused
from offgridd.core.search import Query

FIELDS = ("query", "author", "limit")
LIMIT, MOST = 50_000, 1_000_000  # models of one sync
WHAT = "catalog sync"


def add_catalog(app: Quart, ctx: Context) -> None:
    @app.get("/v1/catalog")
    async def known() -> Response:
        if request.args:
            raise _bad(next(iter(request.args)), "there is no such parameter; there are none")
        found = await anyio.to_thread.run_sync(ctx.syncer.known)
        ages = (None if at is None else round(max(0.0, time.time() - at), 1) for at in (found.oldest, found.newest))
        oldest, newest = ages
        return answer({"models": found.models, "sized": found.sized, "bytes": found.bytes, "oldest_age": oldest,
                       "newest_age": newest})  # fmt: skip

    @app.post("/v1/catalog/sync")
    async def sync() -> Response:
        query, limit = parse_sync(await body.read_json())
        running = [job for job in ctx.jobs.all() if job.what.startswith(WHAT) and not job.over.is_set()]
        if running:
            text = f"cannot sync twice at once: job {running[0].id} does it; follow it, or cancel it"
            raise RequestRefused(409, "sync_running", text)

        async def work(report: Report) -> dict[str, Any]:
            return await ctx.syncer.sync(query, limit, report)

        asked = [text for text in (query.author and f"{query.author}/", query.text) if text]
        what = " ".join(" ".join((WHAT, *asked)).split())
        return answer(ctx.jobs.begin(what, work, "models").shown(), 202)


def parse_sync(given: Mapping[str, Any]) -> tuple[Query, int]:
    """What the hub is asked for, and how many models at most. Raises RequestRefused (400)."""
    unknown = sorted(set(given) - set(FIELDS))
    if unknown:
        raise _bad(unknown[0], "there is no such field; there are " + ", ".join(FIELDS))
    limit = given.get("limit")
    limit = LIMIT if limit is None else limit
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST:
        raise _bad("limit", f"it must be a whole number from 1 to {MOST}")
    # The most used first: they are there whatever ends the walk.
    return Query(text_of(given, "query") or "", text_of(given, "author"), sort="downloads"), limit


def _bad(name: str, why: str) -> RequestRefused:
    return RequestRefused(400, "invalid_value", f"cannot use {name[:64]!r}: {why}", param=name[:64])
