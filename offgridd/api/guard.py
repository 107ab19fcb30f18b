"""Who may call what, and what every failure looks like."""

from __future__ import annotations

import ipaddress

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from offgridd.api.answers import problem
from offgridd.api.context import Context
from offgridd.core.desired import Desired
from offgridd.core.errors import RequestRefused

# For the admin socket only, until there are keys.
LOCAL_ONLY = {"/v1/reload", "/v1/reconcile", "/v1/logs", "/v1/pull", "/v1/jobs", "/v1/jobs/<job>", "/v1/rm", "/v1/list",
              "/v1/update", "/v1/bundle/export", "/v1/bundle/import", "/v1/gc", "/v1/adopt", "/v1/verify",
              "/v1/catalog/sync", "/v1/load", "/v1/unload", "/v1/retry", "/v1/config"}  # fmt: skip

# The rest of these routes is for everybody.
LOCAL_METHODS = {("POST", "/v1/benchmarks")}


def host_allowed(host: str, desired: Desired, local: str = "") -> bool:
    """A loopback name, a literal of an address we listen on or of the connection's own, or a name that is allowed.

    `local` is the address at which the connection came in: where 0.0.0.0 is listened on, the manifest can not name it.
    A literal can not be pointed elsewhere, as a name can.
    """
    name = host_of(host).lower()
    if name == "localhost" or name in desired.server.allowed_hosts:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or str(address) in {local, *map(host_of, desired.server.listen)}


def host_of(text: str) -> str:
    """`text` without its port and without the brackets of an IPv6 address."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, _, port = text.rpartition(":")
    return name if port.isdigit() else text


async def _configured(ctx: Context) -> bool:
    """Whether there is a manifest to serve by; waits for the verdict on the first one, which is near."""
    while ctx.desired.generation == 0 and not ctx.loop.snapshot.observed.manifest.problems:
        await ctx.loop.next_change()
    return ctx.desired.generation > 0


def add_guard(app: Quart, ctx: Context) -> None:
    @app.before_request
    async def check() -> None:
        if ctx.admin:
            return
        if request.path != "/healthz" and not await _configured(ctx):
            text = "cannot serve: no manifest was accepted yet; offgrid status on the admin socket says why"
            raise RequestRefused(503, "not_configured", text, retry_after=5)
        local, _ = request.scope.get("server") or ("", None)
        if not host_allowed(request.headers.get("Host", ""), ctx.desired, local):
            raise RequestRefused(403, "host_not_allowed", "cannot serve this Host; add it to server.allowed_hosts")
        if "Origin" in request.headers:
            raise RequestRefused(403, "origin_not_allowed", "cannot serve requests from web pages of other origins")
        # The rule that matched, not the path: there are many ways to write a path.
        rule = "" if request.url_rule is None else request.url_rule.rule
        if rule in LOCAL_ONLY or (request.method, rule) in LOCAL_METHODS:
            text = "cannot act over TCP: this route is for the admin socket; give offgrid its path with --host"
            raise RequestRefused(403, "admin_only", text)

    @app.after_request
    async def last(response: Response) -> Response:
        if ctx.closing():
            response.headers["Connection"] = "close"
        return response


def add_errors(app: Quart) -> None:
    @app.errorhandler(RequestRefused)
    async def refused(error: RequestRefused) -> Response:
        return problem(error)

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}.get(error.code or 500)
        return problem(
            RequestRefused(error.code or 500, code or "http_error", f"cannot serve this: {error.name.lower()}")
        )

    @app.errorhandler(Exception)
    async def bug(error: Exception) -> Response:
        app.logger.exception("a route failed")
        return problem(RequestRefused(500, "internal_error", "cannot answer: an error of ours; it is in the log"))
