"""Repositories of one hub: the files at a commit, and where one of them lies. Blocking: call it in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from offgridd.core.hub import MOST_SIZE, HubError, HubFailure, HubFile, RepoTree, Target, as_sha256, is_path, is_repo
from offgridd.effects.hub.gate import Gate
from offgridd.effects.hub.refusals import LIMITED, refusal
from offgridd.effects.hub.session import Reply, ask, joined, origin
from offgridd.effects.hub.web import check_redirect

WHOLE = 30.0  # seconds for a question that takes several requests
DOWN = 30.0  # seconds for which a hub that could not be reached is not asked again
MOST_PAGES, MOST_HOPS, MOST_FILES = 100, 5, 20_000
_UNREACHABLE = ("HubTimeout", "HubUnreachable")


@dataclass(slots=True)
class HubClient:
    """`endpoint` has no slash at its end. `offline` is asked before each request."""

    endpoint: str
    token: str | None = None
    offline: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    gate: Gate = field(default_factory=Gate)  # shared with all who ask the endpoint
    _down: HubFailure | None = None
    _down_until: float = field(default=0.0)

    def tree(self, repo: str, revision: str = "main") -> RepoTree:
        """All files of a repository at a branch, tag or commit. Raises HubError."""
        until = self.clock() + WHOLE
        about = _dict(self.get(f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}", repo, until).json())
        commit, name = _text(about, "sha"), about.get("id", repo)
        name = name if isinstance(name, str) and is_repo(name) else repo
        if not is_path(commit):
            raise _bad("the commit is none")
        return RepoTree(name, commit, self.files(name, commit, until), bool(about.get("gated")))

    def files(self, repo: str, revision: str, until: float) -> tuple[HubFile, ...]:
        """All files at a branch, tag or commit; `until`: monotonic seconds. Raises HubError."""
        tree = f"{quote(repo)}/tree/{quote(revision, safe='')}"
        url = f"{self.endpoint}/api/models/{tree}?recursive=true&expand=false"
        files: list[HubFile] = []
        for _ in range(MOST_PAGES):
            reply = self.get(url, repo, until)
            files += [_file(e) for e in _list(reply.json()) if _dict(e).get("type") == "file"]
            if len(files) > MOST_FILES:
                break
            following = next_page(reply)
            if following is None:
                return tuple(files)
            url = following
        raise HubError(HubFailure("BadAnswer", f"cannot list {repo}: its list of files has no end"))

    def resolve(self, repo: str, commit: str, path: str) -> Target:
        """Where a file is. Raises HubError."""
        first = f"{self.endpoint}/{quote(repo)}/resolve/{quote(commit, safe='')}/{quote(path)}"
        reply = self._ask("HEAD", first, repo, None)
        headers = dict(reply.headers)
        for _ in range(MOST_HOPS):
            if not 300 <= reply.status < 400:
                break
            to = joined(reply.url, reply.headers.get("location", ""))
            check_redirect(reply.url, to)
            if "x-linked-size" in headers:  # it said all that we want to know
                return _target(headers, to, direct=origin(to) == origin(self.endpoint))
            if origin(to) != origin(self.endpoint):
                raise HubError(HubFailure("BadAnswer", f"cannot find {path}: the hub sends us on without its size"))
            reply = self._ask("HEAD", to, repo, None)
            headers |= reply.headers
        return _target(headers | {"x-linked-size": reply.headers.get("content-length", "")}, reply.url, direct=True)

    def get(self, url: str, repo: str, until: float) -> Reply:
        """The answer at an address or path of the hub, its redirects followed: a renamed repository has one.

        `repo` is what is asked about, for people. Raises HubError.
        """
        url = url if "://" in url else self.endpoint + url
        for _ in range(MOST_HOPS):
            reply = self._ask("GET", url, repo, until)
            if not 300 <= reply.status < 400:
                return reply
            url = joined(url, reply.headers.get("location", ""))
        raise HubError(HubFailure("BadAnswer", f"cannot read {repo}: the hub sends us round in a ring"))

    def _ask(self, method: str, url: str, repo: str, until: float | None) -> Reply:
        if self.offline():
            raise HubError(HubFailure("Offline", f"cannot ask {self.endpoint}: offline is declared"))
        if origin(url) != origin(self.endpoint):
            raise HubError(HubFailure("BadAnswer", f"cannot go on: {self.endpoint} sends us to another server"))
        if (left := self.gate.left()) > 0:
            raise HubError(HubFailure("RateLimited", f"cannot ask for {repo}: {LIMITED}", True, left))
        down = self._down  # another thread may write it meanwhile
        if down is not None and self.clock() < self._down_until:
            raise HubError(down)
        try:
            reply = ask(method, url, self.token, min(until or self.clock() + WHOLE, self.clock() + WHOLE))
            if reply.status >= 400:
                raise HubError(refusal(reply.status, reply.headers, repo, anonymous=self.token is None))
        except HubError as error:
            if error.failure.reason == "RateLimited" and error.failure.retry_after is not None:
                self.gate.close(error.failure.retry_after)
            elif error.failure.reason in _UNREACHABLE:
                self._down_until, self._down = self.clock() + DOWN, error.failure
            raise
        self._down = None
        return reply


def _target(headers: dict[str, str], url: str, *, direct: bool) -> Target:
    size = headers["x-linked-size"]
    if not size.isdecimal() or len(size) > 19 or int(size) >= MOST_SIZE:
        raise HubError(HubFailure("BadAnswer", "cannot find the file: the hub does not say how large it is"))
    tag = (headers.get("x-linked-etag") or headers.get("etag", "")).removeprefix("W/").strip('"')
    return Target(url, int(size), as_sha256(tag), headers.get("x-repo-commit", ""), direct)


def next_page(reply: Reply) -> str | None:
    """The URL of the next page, as the Link header has it."""
    for part in reply.headers.get("link", "").split(","):
        url, _, rest = part.strip().partition(">")
        if url.startswith("<") and 'rel="next"' in rest:
            return joined(reply.url, url[1:])
    return None


def _file(entry: dict[str, Any]) -> HubFile:
    lfs, size, path = entry.get("lfs"), entry.get("size"), _text(entry, "path")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < MOST_SIZE:
        raise _bad("a file has no size")
    if not is_path(path):
        raise _bad("a file has a name that is none")
    return HubFile(path, size, as_sha256(lfs.get("oid")) if isinstance(lfs, dict) else None)


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise _bad(f"{name} is missing")
    return value


def _dict(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _bad("it has another form")
    return found


def _list(found: Any) -> list[Any]:
    if not isinstance(found, list):
        raise _bad("it has another form")
    return found


def _bad(why: str) -> HubError:
    return HubError(HubFailure("BadAnswer", f"cannot read the hub's answer: {why}", passing=True))
