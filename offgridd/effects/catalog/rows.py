"""A hit -> a row, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from offgridd.core.search import Hit, Kind
from offgridd.core.variants import RepoFile, sort_files

COLUMNS = ("lower", "plain", "author", "gated", "kind", "least", "largest", "downloads", "likes", "created", "modified",
           "trending", "seen", "id", "license", "hash", "quants")  # fmt: skip
_HYPHENS = str.maketrans("_.", "--")


@dataclass(frozen=True, slots=True)
class Made:
    """`values` of all columns but the last; `quants`: their names as words between spaces; `files` as JSON."""

    id: str
    commit: str
    values: tuple[Any, ...]
    quants: str
    files: str
    sized: bool  # whether all sizes are known


def row_of(hit: Hit, now: float) -> Made:
    variants = sort_files(hit.files).variants
    found = [v.quant for v in variants if v.quant is not None]
    names = {name for q in found for name in (q.name, q.token, q.name.removeprefix("UD-"))}
    sizes = [v.total_bytes for v in variants if v.total_bytes is not None]
    files = [f for f in hit.files if f.path.lower().endswith(".gguf")]  # no other file is asked for
    lower = hit.id.lower()
    plain = lower.partition("/")[2].translate(_HYPHENS)
    values = (lower, f"-{plain}-", hit.author.lower(), hit.gated, hit.kind, min(sizes, default=None),
              max(sizes, default=None), hit.downloads, hit.likes, hit.created_at, hit.last_modified, hit.trending, now,
              hit.id, hit.license, hit.commit)  # fmt: skip
    data = msgspec.json.encode([[f.path, f.size] for f in files]).decode()
    sized = all(f.size is not None for f in files)
    return Made(hit.id, hit.commit, values, f" {' '.join(sorted(names))} ", data, sized)


class _Row(msgspec.Struct, array_like=True, frozen=True):
    """What is read of a row; the names are those of the columns."""

    id: str
    downloads: int
    likes: int
    created: str
    modified: str
    gated: Literal["false", "auto", "manual"]
    license: str | None
    kind: Kind | None
    hash: str
    trending: float
    files: str
    seen: float


SHOWN = ", ".join(_Row.__struct_fields__)


def hit_of(row: Sequence[Any]) -> tuple[Hit, float] | None:
    """Of the columns that are `SHOWN`; and when it was seen. None where they make no sense: a disk may rot."""
    try:
        r = msgspec.convert(row, _Row)
    except msgspec.ValidationError:
        return None
    files = files_of(r.files)
    hit = Hit(r.id, r.downloads, r.likes, r.created, r.modified, r.gated, r.license, r.kind, r.hash, files, r.trending)
    return hit, r.seen


def files_of(data: str) -> tuple[RepoFile, ...]:
    """None where they make no sense."""
    try:
        return tuple(RepoFile(*pair) for pair in msgspec.json.decode(data, type=list[tuple[str, int | None]]))
    except msgspec.DecodeError:
        return ()
