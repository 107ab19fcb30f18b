"""POST /v1/pull: a file of the hub is fetched and kept, declared or not. For the admin socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.jobs import Job, Report
from offgridd.api.search import flag_of, hub_refused, quants_of, size_of, text_of
from offgridd.core.desired import HUB, HubSource, ModelSpec, UrlSource
from offgridd.core.errors import ActionFailed, RequestRefused
from offgridd.core.hub import HUB_TROUBLE, HubFailure, as_sha256
from offgridd.core.hubaddress import Address, is_address, parse_address
from offgridd.core.naming import file_name, url_name
from offgridd.core.snippet import declaration, web_declaration
from offgridd.manifest import values

FIELDS = ("repo", "quant", "file", "revision", "max_size", "dry_run", "wait")
LONGEST = 2048  # characters of an address
# What may be over without anybody doing anything.
AWAY = {"HubTimeout", "HubUnreachable", "HubUnavailable", "RateLimited", "ContentStalled", "ContentUnavailable"}
PAUSES = (5.0, 10.0, 20.0, 30.0)  # seconds before a hub that is away is asked again; the last one from then on


def add_pull(app: Quart, ctx: Context) -> None:
    @app.post("/v1/pull")
    async def pull() -> Response:
        given = await body.read_json()
        if given.get("sha256") is not None:
            return _web(ctx, *parse_web(given))
        source, wait = parse_pull(given, ctx), flag_of(given, "wait")
        if flag_of(given, "dry_run"):
            return answer(await _preview(ctx, source))

        async def work(report: Report) -> dict[str, Any]:
            spec = await _pulled(ctx, source, report, job if wait else None)
            assert isinstance(spec.source, HubSource)
            return {"repo": spec.source.repo, "file": spec.source.file, "name": file_name(spec.source),
                    "manifest": _declaration(source, spec.source)}  # fmt: skip

        job = ctx.jobs.begin(f"pull {source.repo}", work)
        return answer(job.shown(), 202)


def _web(ctx: Context, source: UrlSource, sha256: str) -> Response:
    async def work(report: Report) -> dict[str, Any]:
        spec = await ctx.keeper.pull_web(source, sha256, report)
        assert isinstance(spec.source, HubSource)
        return {"repo": spec.source.repo, "file": spec.source.file, "name": file_name(spec.source),
                "manifest": web_declaration(source.url, sha256)}  # fmt: skip

    return answer(ctx.jobs.begin(f"pull {url_name(source.url)}", work).shown(), 202)


def parse_web(given: Mapping[str, Any]) -> tuple[UrlSource, str]:
    """A file of any server, and what it must hash to. Raises RequestRefused (400)."""
    unknown = sorted(set(given) - {"repo", "sha256", "max_size"})
    if unknown:
        raise _bad(unknown[0], "with a sha256 there is one file to take: nothing else is to be chosen")
    address, sha256 = given.get("repo"), as_sha256(given.get("sha256"))
    if sha256 is None:
        raise _bad("sha256", "write 64 hex digits")
    try:
        url = values.web_address(address if isinstance(address, str) else "")
    except ValueError as error:
        raise _bad("repo", f"it {error}") from None
    return UrlSource(url, size_of(given, "max_size")), sha256


async def _pulled(ctx: Context, source: HubSource, report: Report, waiting: Job | None) -> ModelSpec:
    """With `waiting` it goes on while the hub is away, and that job says meanwhile why. Raises ActionFailed."""
    tries = 0
    while True:
        try:
            return await ctx.keeper.pull(source, report)
        except ActionFailed as failed:
            if waiting is None or failed.failure.reason not in AWAY:
                raise
            waiting.failure = failed.failure
        await anyio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


async def _preview(ctx: Context, source: HubSource) -> dict[str, Any]:
    """What a pull would fetch. Raises RequestRefused."""
    try:
        pin, here = await ctx.keeper.preview(source)
    except ActionFailed as failed:
        why = failed.failure
        if why.reason in HUB_TROUBLE:
            raise hub_refused(HubFailure(why.reason, why.message)) from failed
        raise RequestRefused(409, why.reason, why.message) from failed
    files = [{"path": f.path, "size": f.size, "here": f.sha256 in here} for f in pin.files]
    chosen = HubSource(pin.repo, pin.files[0].path, pin.commit, (pin.quant,) if pin.quant else ())
    return {"repo": pin.repo, "commit": pin.commit, "quant": pin.quant, "why": pin.why, "size": pin.size,
            "fetched": sum(f.size for f in pin.files if f.sha256 not in here), "files": files,
            "name": file_name(chosen), "manifest": _declaration(source, chosen)}  # fmt: skip


def _declaration(asked: HubSource, chosen: HubSource) -> str:
    """What declares it: as it was asked for, else what was chosen, so that it means the same tomorrow."""
    quants = asked.quants or chosen.quants
    file = asked.file or (None if quants else chosen.file)
    return declaration(chosen.repo, quants, file, asked.revision, asked.max_size)


def parse_pull(given: Mapping[str, Any], ctx: Context) -> HubSource:
    """Raises RequestRefused (400)."""
    unknown = sorted(set(given) - set(FIELDS))
    if unknown:
        raise _bad(unknown[0], "there is no such field; there are " + ", ".join(FIELDS))
    address = _address(given, ctx.desired.endpoint)
    file = _one("file", text_of(given, "file"), address.file)
    revision = _one("revision", text_of(given, "revision"), address.revision)
    if revision is not None and (not values.matches(values.REVISION, revision) or ".." in revision):
        raise _bad("revision", "write a commit, tag or branch")
    quants = quants_of(given.get("quant"))
    if file is not None and quants:
        raise _bad("quant", "file chooses already; leave one of them out")
    try:
        inner = values.inner_path(file) if file is not None else None
    except ValueError as error:
        raise _bad("file", f"it {error}") from None
    asked = () if quants == ("auto",) else quants
    desired = ctx.desired
    return HubSource(address.repo, inner, revision, asked, size_of(given, "max_size"), desired.endpoint, desired.token)


def _address(given: Mapping[str, Any], endpoint: str) -> Address:
    """`owner/repo`, or an address of the declared hub, or of Hugging Face, which that may be a mirror of."""
    repo = given.get("repo")
    if isinstance(repo, str) and is_address(repo):
        found = parse_address(repo.strip(), (endpoint, HUB)) if len(repo) <= LONGEST else "it is too long"
        if isinstance(found, str):
            raise _bad("repo", found)
        return found
    repo = text_of(given, "repo")
    if repo is None or not values.matches(values.REPO, repo):
        raise _bad("repo", "write it as owner/repo, or as an address of the hub")
    return Address(repo)


def _one(name: str, given: str | None, found: str | None) -> str | None:
    if given is not None and found is not None and given != found:
        raise _bad(name, "the address names another one; leave one of them out")
    return given or found


def _bad(name: str, why: str) -> RequestRefused:
    return RequestRefused(400, "invalid_value", f"cannot pull: {name}: {why}", param=name)
