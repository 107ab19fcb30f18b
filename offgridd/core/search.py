"""What is searched for, what a hub or the catalogue knows of a model, and the answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from offgridd.core.choice import AUTO, Choice, Wanted, choose
from offgridd.core.hub import HubFailure
from offgridd.core.variants import RepoFile, Variant, sort_files

Sort = Literal["downloads", "likes", "modified", "created", "trending", "relevance"]
Kind = Literal["chat", "embedding", "vision"]
SORTS: tuple[Sort, ...] = ("downloads", "likes", "modified", "created", "trending", "relevance")
KINDS: tuple[Kind, ...] = ("chat", "embedding", "vision")
MOST = 100  # results
_PIPELINES: dict[str, Kind] = {
    "text-generation": "chat", "conversational": "chat", "image-text-to-text": "vision", "any-to-any": "vision",
    "visual-question-answering": "vision", "feature-extraction": "embedding", "sentence-similarity": "embedding",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """`text`: each of its words stands somewhere in the id. Sizes are bytes of the variant that is taken."""

    text: str = ""
    author: str | None = None
    quants: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    sort: Sort = "trending"
    limit: int = 20
    gated: bool = True  # False: without those that are gated
    kind: Kind | None = None
    fits: bool = False  # only what this machine's memory can hold

    @property
    def words(self) -> tuple[str, ...]:
        """In lower case, each once."""
        return tuple(dict.fromkeys(self.text.lower().split()))


@dataclass(frozen=True, slots=True)
class Hit:
    """A repository. Times as ISO 8601 text; `files` with their sizes where those are known."""

    id: str
    downloads: int
    likes: int
    created_at: str
    last_modified: str
    gated: Literal["false", "auto", "manual"]
    license: str | None
    kind: Kind | None
    commit: str
    files: tuple[RepoFile, ...]
    trending: float = 0.0

    @property
    def author(self) -> str:
        return self.id.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Result:
    hit: Hit
    variants: tuple[Variant, ...]
    best: Variant | None
    why: str
    fits: Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Found:
    """`age`: seconds since the oldest result was seen; `partial`: sizes are missing, or there may be more."""

    results: tuple[Result, ...]
    source: Literal["hub", "catalog"]
    age: float
    partial: bool
    hub_error: HubFailure | None = None


def kind_of(pipeline: str | None, tags: Iterable[str]) -> Kind | None:
    """What a model is for, as the hub's `pipeline_tag` and its tags tell."""
    if pipeline in _PIPELINES:
        return _PIPELINES[pipeline]
    return next((_PIPELINES[tag] for tag in tags if tag in _PIPELINES), None)


def matches(hit: Hit, query: Query) -> bool:
    """Whether a repository is one of those that are asked for, its files aside."""
    if query.author is not None and hit.author.lower() != query.author.lower():
        return False
    if not query.gated and hit.gated != "false":
        return False
    if query.kind is not None and hit.kind != query.kind:
        return False
    return all(word in hit.id.lower() for word in query.words)


def result(hit: Hit, query: Query, memory: int | None, features: frozenset[str] = frozenset()) -> Result | None:
    """With the variant that would be taken; None where the query asks for what it has not. `memory`: bytes there are.

    What is not known is dropped only where a size limit or `fits` is asked for.
    """
    variants = _variants(hit.files)
    floor = query.min_size
    allowed = [v for v in variants if floor is None or (v.total_bytes is not None and v.total_bytes >= floor)]
    found = choose(allowed, Wanted(query.quants or (AUTO,), query.max_size, features=features))
    limited = query.quants or query.min_size is not None or query.max_size is not None
    best = found.variant if isinstance(found, Choice) else None
    fits = fits_in(best, memory)
    if best is None and (limited or not variants):
        return None
    if query.fits and fits == "no":
        return None
    return Result(hit, variants, best, found.why if isinstance(found, Choice) else found.message, fits)


@lru_cache(256)  # the same models are found again and again
def _variants(files: tuple[RepoFile, ...]) -> tuple[Variant, ...]:
    return sort_files(files).variants


def fits_in(variant: Variant | None, memory: int | None) -> Literal["yes", "no", "unknown"]:
    """Weights alone tell what can not fit; what can needs the file's own keys."""
    if variant is None or variant.total_bytes is None or memory is None:
        return "unknown"
    return "no" if variant.total_bytes > memory else "unknown"


def ordered(hits: Iterable[Hit], query: Query) -> list[Hit]:
    """As the query sorts them, the id deciding between equals."""
    found = list(hits)
    match query.sort:
        case "downloads":
            found.sort(key=lambda h: (-h.downloads, h.id))
        case "likes":
            found.sort(key=lambda h: (-h.likes, h.id))
        case "modified":
            found.sort(key=lambda h: h.id)
            found.sort(key=lambda h: h.last_modified, reverse=True)
        case "created":
            found.sort(key=lambda h: h.id)
            found.sort(key=lambda h: h.created_at, reverse=True)
        case "trending":
            found.sort(key=lambda h: (-h.trending, -h.downloads, h.id))
        case "relevance":
            found.sort(key=lambda h: (_distance(h.id, query.words), -h.downloads, h.id))
    return found


def _distance(model: str, words: Sequence[str]) -> tuple[int, int, int]:
    """Smaller is nearer: words that are whole parts of the name first, then early, then a short name."""
    name = model.partition("/")[2].lower()
    parts = name.replace("_", "-").replace(".", "-").split("-")
    whole = sum(word not in parts for word in words)
    first = min((name.find(word) for word in words if word in name), default=len(name))
    return whole, first, len(name)
