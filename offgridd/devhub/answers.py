"""A request -> an answer, as huggingface.co gives it. No sockets here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from offgridd.devhub.repos import Blob, Repo

GRANTED = "hf_granted"  # the token that may see what is gated; any other `hf_...` is a user who was not let in
Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is decoded but for what was `%2F`; `base` and `cdn` are how the client reaches the two origins."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]  # lower-case names
    body: bytes = b""
    base: str = ""
    cdn: str = ""

    @property
    def token(self) -> str | None:
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() == "bearer" and token else None

    def first(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def form(self, name: str) -> list[str]:
        return parse_qs(self.body.decode("utf-8", "replace")).get(name, [])


@dataclass(frozen=True, slots=True)
class Answer:
    """With `blob`, the body is that file, and ranges of it can be asked for."""

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    blob: Blob | None = None


def as_json(value: Any, status: int = 200, headers: Headers | None = None) -> Answer:
    made = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
    return Answer(status, json.dumps(value).encode(), made)


def error(status: int, text: str, code: str | None = None, headers: Headers | None = None) -> Answer:
    made = {"X-Error-Message": text, **(headers or {})} | ({"X-Error-Code": code} if code else {})
    return as_json({"error": text}, status, made)


def no_repo(request: Request) -> Answer:
    """An anonymous client does not learn whether it is missing or private."""
    if request.token is not None:
        return error(404, "Repository not found", "RepoNotFound")
    challenge = {"WWW-Authenticate": 'Bearer realm="Authentication required", charset="UTF-8"'}
    # Over https the client takes a bare 401 for a missing repository; over http it needs the code to do so.
    code = "RepoNotFound" if request.base.startswith("http:") else None
    return error(401, "Invalid username or password.", code, challenge)


def refused(request: Request, repo: Repo) -> Answer | None:
    """Why the content of `repo` is kept from this client; None where it is not."""
    if not repo.about.get("gated") or request.token == GRANTED:
        return None
    why = "you are not in the authorized list." if request.token else "You must be authenticated to access it."
    text = f"Access to model {repo.id} is restricted. {why}"
    return error(403 if request.token else 401, text, "GatedRepo")


def info(repo: Repo, commit: str, *, blobs: bool = False) -> dict[str, Any]:
    tree = repo.commits[commit]
    gguf = any(path.endswith(".gguf") for path in tree)
    found = {
        "_id": "65" + commit[:22], "id": repo.id, "modelId": repo.id, "author": repo.id.partition("/")[0],
        "sha": commit, "lastModified": "2025-01-02T03:04:05.000Z", "createdAt": "2024-01-02T03:04:05.000Z",
        "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
        "tags": ["gguf"] if gguf else [], "library_name": "gguf" if gguf else None,
        "pipeline_tag": "text-generation", "usedStorage": sum(b.size for b in tree.values()), **repo.about,
    }  # fmt: skip
    found["siblings"] = [_sibling(path, blob) if blobs else {"rfilename": path} for path, blob in sorted(tree.items())]
    return found


def _sibling(path: str, blob: Blob) -> dict[str, Any]:
    lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return {"rfilename": path, "blobId": blob.oid, "size": blob.size} | ({"lfs": lfs} if blob.lfs else {})


def entry(path: str, blob: Blob) -> dict[str, Any]:
    """A file as the tree has it."""
    lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return {"type": "file", "oid": blob.oid, "size": blob.size, "path": path} | ({"lfs": lfs} if blob.lfs else {})
