"""The hub's list of models: one page of it, read with care."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from offgridd.core.hub import HubError, HubFailure, is_path, is_repo
from offgridd.core.search import Hit, Query, kind_of
from offgridd.core.variants import RepoFile
from offgridd.effects.hub.client import HubClient, next_page

PAGE = 100  # of the hub's list
FIELDS = ("author", "createdAt", "downloads", "gated", "lastModified", "likes", "pipeline_tag", "sha", "siblings",
          "tags", "trendingScore")  # fmt: skip
_SORTS = {"downloads": "downloads", "likes": "likes", "modified": "lastModified", "created": "createdAt",
          "trending": "trendingScore"}  # fmt: skip
_PIPELINES = {"chat": "text-generation", "embedding": "feature-extraction", "vision": "image-text-to-text"}


@dataclass(frozen=True, slots=True)
class Page:
    hits: tuple[Hit, ...]
    next: str | None  # its address


def first_page(query: Query, endpoint: str, count: int = PAGE) -> str:
    """The address that asks for what a query means, as far as the hub can tell; `count` models at once."""
    asked: list[tuple[str, str]] = [("filter", "gguf")]
    asked += [("search", " ".join(query.words))] if query.words else []
    asked += [("author", query.author)] if query.author else []
    asked += [("pipeline_tag", _PIPELINES[query.kind])] if query.kind else []
    asked += [("gated", "false")] if not query.gated else []
    asked += [("sort", _SORTS[query.sort])] if query.sort in _SORTS else []
    asked += [("limit", str(count)), *(("expand", name) for name in FIELDS)]
    return f"{endpoint}/api/models?{urlencode(asked)}"


def read_page(client: HubClient, url: str, until: float) -> Page:
    """Raises HubError."""
    reply = client.get(url, "the list of models", until)
    found = reply.json()
    if not isinstance(found, list):
        raise HubError(HubFailure("BadAnswer", "cannot read the hub's list of models: it has another form", True))
    return Page(tuple(hit for one in found if (hit := _hit(one)) is not None), next_page(reply))


def _hit(found: Any) -> Hit | None:
    """None where it is no model that one could name; what is missing otherwise is empty."""
    if not isinstance(found, dict) or not is_repo(found.get("id")):
        return None
    tags = [tag for tag in _list(found, "tags") if isinstance(tag, str)]
    names = [s["rfilename"] for s in _list(found, "siblings") if isinstance(s, dict) and is_path(s.get("rfilename"))]
    gated = found.get("gated")
    return Hit(
        found["id"],
        _number(found, "downloads"),
        _number(found, "likes"),
        _text(found, "createdAt"),
        _text(found, "lastModified"),
        "false" if not gated else "manual" if gated == "manual" else "auto",
        next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), None),
        kind_of(_text(found, "pipeline_tag"), tags),
        _text(found, "sha"),
        tuple(RepoFile(name) for name in names),
        float(_number(found, "trendingScore")),
    )


def _list(found: dict[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _number(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    return int(value) if 0 <= value < 1 << 53 else 0


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""
