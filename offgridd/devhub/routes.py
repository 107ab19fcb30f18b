"""The hub's routes: models, trees and files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlencode

from offgridd.devhub.answers import Answer, Request, as_json, entry, error, info, no_repo, refused
from offgridd.devhub.repos import Repo, Repos

PAGE = 1000  # of a list of models, and of a tree
_ALWAYS = ("_id", "id")
_SORTS = {"createdAt", "downloads", "lastModified", "likes", "trendingScore"}
_PATHS = re.compile(
    r"/api/models(?:/(?P<id>[^/]+/[^/]+)(?:/(?P<what>tree|paths-info|revision|refs)(?:/(?P<rest>.+))?)?)?$"
    r"|/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$"
    r"|/api/resolve-cache/models/(?P<cached>[^/]+/[^/]+)/(?P<commit>[0-9a-f]{40})/(?P<file>.+)$"
)


class Hub:
    """Answers for the repositories of a folder; `page` is how many entries a list's page has at most."""

    def __init__(self, repos: Repos, page: int = PAGE) -> None:
        self.repos, self.page = repos, page

    def answer(self, request: Request) -> Answer:
        """What the first origin says: models, trees, and where files are."""
        if request.token is not None and not request.token.startswith("hf_"):
            return error(401, "Invalid credentials in Authorization header")
        found = _PATHS.match(request.path)
        if found is None:
            return error(404, "Sorry, we can't find the page you are looking for.")
        if found["repo"]:
            path = found["path"]
            return self._in(request, found["repo"], found["revision"], lambda r, c: self._resolve(request, r, c, path))
        if found["cached"]:
            path = found["file"]
            return self._in(request, found["cached"], found["commit"], lambda r, c: _small(r, c, path))
        if not found["id"]:
            return self._models(request)
        return self._model(request, found["id"], found["what"], found["rest"] or "main")

    def content(self, request: Request) -> Answer:
        """What the second origin says: the files that are in LFS, by their sha256."""
        blob = self.repos.blob(request.path.rpartition("/")[2])
        if blob is None:
            return error(404, "Not Found")
        tag = hashlib.sha3_256(blob.sha256.encode()).hexdigest()  # not the sha256, as on the real one
        return Answer(200, headers={"ETag": f'"{tag}"', "Content-Type": "application/octet-stream"}, blob=blob)

    def _in(self, request: Request, repo_id: str, revision: str, then: Callable[[Repo, str], Answer]) -> Answer:
        repo = self.repos.find(repo_id)
        if repo is None or repo.about.get("private"):
            return no_repo(request)
        commit = repo.commit(unquote(revision))
        if commit is None:
            return error(404, f"Invalid rev id: {unquote(revision)}", "RevisionNotFound")
        return then(repo, commit)

    def _model(self, request: Request, repo_id: str, what: str | None, rest: str) -> Answer:
        revision, _, folder = rest.partition("/")
        match what:
            case "refs":
                return self._in(request, repo_id, "main", lambda repo, _: _refs(repo))
            case "tree":
                return self._in(request, repo_id, revision, lambda r, c: self._tree(request, r, c, unquote(folder)))
            case "paths-info":
                return self._in(request, repo_id, revision, lambda r, c: _paths_info(request, r, c))
        blobs = request.first("blobs").lower() == "true"
        return self._in(
            request, repo_id, revision, lambda r, c: as_json(_expanded(request, info(r, c, blobs=blobs), full=True))
        )

    def _models(self, request: Request) -> Answer:
        found = [info(repo, repo.head) for repo in self.repos.all() if not repo.about.get("private")]
        wanted = request.first("search").lower()
        found = [one for one in found if wanted in one["id"].lower() and _passes(request, one)]
        by = request.first("sort") or "trendingScore"
        if by not in _SORTS:
            return error(400, f"Invalid sort: {by}")
        found.sort(key=lambda one: (one.get(by) or 0, one["id"]) if by in one else (0, one["id"]), reverse=True)
        asked = int(request.first("limit", str(self.page)))
        page, headers = self._paged(request, found, min(self.page, asked))
        full = request.first("full").lower() == "true"
        return as_json([_expanded(request, one, full=full) for one in page], headers=headers)

    def _tree(self, request: Request, repo: Repo, commit: str, folder: str) -> Answer:
        prefix = f"{folder}/" if folder else ""
        deep = request.first("recursive").lower() == "true"
        made: dict[str, dict[str, Any]] = {}
        for path, blob in sorted(repo.commits[commit].items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if deep else min(len(parts), 2)):
                name = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(f"{commit}{name}".encode()).hexdigest()
                made.setdefault(name, {"type": "directory", "oid": oid, "size": 0, "path": name})
            if deep or len(parts) == 1:
                made[path] = entry(path, blob)
        if folder and not made:
            return error(404, f"{folder} does not exist", "EntryNotFound")
        page, headers = self._paged(request, list(made.values()), self.page)
        return as_json(page, headers=headers)

    def _paged(self, request: Request, found: Sequence[Any], count: int) -> tuple[Sequence[Any], dict[str, str]]:
        """The page that the cursor means, and the link to the next."""
        start = int(request.first("cursor", "0"))
        end = start + count
        if end >= len(found):
            return found[start:], {}
        query = urlencode({**request.query, "cursor": [str(end)]}, doseq=True)
        return found[start:end], {"Link": f'<{request.base}{quote(request.path)}?{query}>; rel="next"'}

    def _resolve(self, request: Request, repo: Repo, commit: str, path: str) -> Answer:
        if (why := refused(request, repo)) is not None:
            return replace(why, headers={**why.headers, "X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        blob = repo.commits[commit].get(path)
        if blob is None:
            return error(404, "Entry not found", "EntryNotFound", headers)
        if not blob.lfs:
            to = f"/api/resolve-cache/models/{repo.id}/{commit}/{quote(path)}?etag=%22{blob.oid}%22"
            prefix = "/" + request.base.split("/", 3)[3] if request.base.count("/") > 2 else ""
            return Answer(307, headers={**headers, "X-Linked-Etag": f'"{blob.oid}"', "Location": prefix + to})
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-Etag": f'"{blob.sha256}"'}
        location = f"{request.cdn}/{repo.id}/{blob.sha256}?Signature=dev"
        return Answer(302, b"Found. Redirecting to " + location.encode(), {**headers, "Location": location})


def _small(repo: Repo, commit: str, path: str) -> Answer:
    blob = repo.commits[commit].get(path)
    if blob is None or not blob.there:
        return error(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
    headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.oid}"', "Content-Type": "text/plain; charset=utf-8"}
    return Answer(200, headers=headers, blob=blob)


def _refs(repo: Repo) -> Answer:
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": commit} for n, commit in repo.refs.items()]
    return as_json({"tags": [], "branches": branches, "converts": []})


def _paths_info(request: Request, repo: Repo, commit: str) -> Answer:
    tree = repo.commits[commit]
    return as_json([entry(path, tree[path]) for path in request.form("paths") if path in tree])


def _expanded(request: Request, found: dict[str, Any], *, full: bool) -> dict[str, Any]:
    """Only the asked fields, where some are asked for; a list has no `siblings` otherwise, unless it is full."""
    asked = [*request.query.get("expand", []), *request.query.get("expand[]", [])]
    if asked:
        return {name: value for name, value in found.items() if name in asked or name in _ALWAYS}
    return found if full else {name: value for name, value in found.items() if name not in ("siblings", "gguf")}


def _passes(request: Request, one: dict[str, Any]) -> bool:
    """Whether a model is one of those that filters, author, pipeline_tag and gated ask for."""
    tags = {*one["tags"], one["pipeline_tag"], one["library_name"]}
    if (author := request.first("author")) and one["author"].lower() != author.lower():
        return False
    if (kind := request.first("pipeline_tag")) and one["pipeline_tag"] != kind:
        return False
    gated = request.first("gated").lower()
    if gated and bool(one["gated"]) != (gated == "true"):
        return False
    return all(tag in tags for group in request.query.get("filter", []) for tag in group.split(","))
