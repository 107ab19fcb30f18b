"""GET and POST /v1/search: what is asked -> a query, what was found -> JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread
from quart import Quart, Response, request

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.crowd import AT_ONCE, check_crowd
from offgridd.api.params import bad
from offgridd.core.errors import RequestRefused
from offgridd.core.hub import HubError, HubFailure
from offgridd.core.search import KINDS, MOST, SORTS, Query, Result
from offgridd.core.snippet import command, declaration
from offgridd.core.variants import Variant
from offgridd.manifest import values

ALIASES = {"q": "query", "sort_by": "sort", "best_fit": "fits"}
FIELDS = ("query", "author", "quant", "min_size", "max_size", "sort", "limit", "exclude_gated", "kind", "fits")
_STATUS = {"HubTimeout": 504, "RateLimited": 429}


def add_search(app: Quart, ctx: Context) -> None:
    searching = anyio.CapacityLimiter(AT_ONCE)

    @app.get("/v1/search")
    async def search() -> Response:
        given = {key: found if len(found) > 1 else found[0] for key, found in request.args.lists()}
        return await _search(ctx, given, searching)

    @app.post("/v1/search")
    async def search_by_body() -> Response:
        return await _search(ctx, await body.read_json(), searching)


async def _search(ctx: Context, given: Mapping[str, Any], searching: anyio.CapacityLimiter) -> Response:
    query = parse_query(given)
    check_crowd(searching, "search")
    try:
        found = await anyio.to_thread.run_sync(ctx.search, query, limiter=searching)
    except HubError as error:
        raise hub_refused(error.failure) from error
    failed = found.hub_error
    return answer(
        {
            "results": [shown(one) for one in found.results],
            "source": found.source,
            "age": round(found.age, 1),
            "partial": found.partial,
            "hub_error": failed and {"code": failed.reason, "message": failed.message},
        }
    )


def hub_refused(failure: HubFailure) -> RequestRefused:
    """What a request gets that a hub was needed for."""
    retry = None if failure.retry_after is None else round(failure.retry_after)
    return RequestRefused(_STATUS.get(failure.reason, 502), "hub_failed", failure.message, retry_after=retry)


def parse_query(given: Mapping[str, Any]) -> Query:
    """Numbers and flags may be text, as in a URL. Raises RequestRefused (400)."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = ALIASES.get(key, key)
        if name not in FIELDS:
            raise bad(key, "there is no such parameter; there are " + ", ".join(FIELDS))
        if name in found:
            raise bad(key, "it is given twice")
        found[name] = value
    return Query(
        text_of(found, "query") or "",
        text_of(found, "author"),
        quants_of(found.get("quant")),
        size_of(found, "min_size"),
        size_of(found, "max_size"),
        _one_of(found, "sort", SORTS) or "trending",
        _limit(found.get("limit")),
        not flag_of(found, "exclude_gated"),
        _one_of(found, "kind", KINDS),
        flag_of(found, "fits"),
    )


def shown(found: Result) -> dict[str, Any]:
    hit, best = found.hit, found.best
    model = {
        "id": hit.id, "author": hit.author, "downloads": hit.downloads, "likes": hit.likes,
        "created_at": hit.created_at, "last_modified": hit.last_modified,
        "gated": False if hit.gated == "false" else hit.gated, "license": hit.license, "kind": hit.kind,
    }  # fmt: skip
    chosen = best and {**_variant(best), "why": found.why, "fits": found.fits}
    return {"model": model, "variants": [_variant(v) for v in found.variants], "best_variant": chosen,
            "why": found.why, **(_ready_to_use(hit.id, best) if best else {})}  # fmt: skip


def _ready_to_use(model: str, best: Variant) -> dict[str, str]:
    """The command that fetches it, and what declares it."""
    quant = best.quant.name if best.quant else None
    declared = declaration(model, (quant,) if quant else (), None if quant else best.filename)
    return {"command": command(model, quant, best.filename), "manifest": declared}


def _variant(variant: Variant) -> dict[str, Any]:
    quant = variant.quant
    return {
        "quant": quant and quant.name, "token": quant and quant.token, "files": variant.files,
        "filename": variant.filename, "size": variant.total_bytes, "size_estimated": False, "shards": variant.shards,
        "complete": variant.complete, "loadable": variant.loadable,
    }  # fmt: skip


def text_of(found: Mapping[str, Any], name: str) -> str | None:
    """Raises RequestRefused."""
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 256:
        raise bad(name, "it must be text of at most 256 characters")
    return value.strip() or None


def quants_of(value: object) -> tuple[str, ...]:
    """One or several, in order of preference. Raises RequestRefused."""
    given = [value] if isinstance(value, str) else value
    if given is None:
        return ()
    if (
        not isinstance(given, list)
        or not all(isinstance(q, str) and 0 < len(q) <= 32 for q in given)
        or len(given) > 16
    ):
        raise bad("quant", "it must be a quant such as Q4_K_M, or up to 16 of them in order of preference")
    return tuple(given)


def size_of(found: Mapping[str, Any], name: str) -> int | None:
    """Bytes, as a number or as the manifest has them. Raises RequestRefused."""
    value = found.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = int(value) if value.isdecimal() and len(value) < 20 else values.size(value)
    except ValueError as error:
        raise bad(name, f"write {error}") from None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise bad(name, f"write {values.WANTED_SIZE}")
    return value


def _limit(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value
    if number is None:
        return Query().limit
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
        raise bad("limit", f"it must be a whole number from 1 to {MOST}")
    return number


def flag_of(found: Mapping[str, Any], name: str) -> bool:
    """Raises RequestRefused."""
    value = found.get(name, False)
    known = {"true": True, "1": True, "": True, "false": False, "0": False}
    value = known.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise bad(name, "it must be true or false")
    return value


def _one_of(found: Mapping[str, Any], name: str, allowed: tuple[Any, ...]) -> Any:
    value = found.get(name)
    if value is not None and value not in allowed:
        raise bad(name, "it must be one of " + ", ".join(allowed))
    return value
