"""A hit -> a row, and back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from offgridd.core.search import Hit
from offgridd.core.variants import RepoFile, sort_files

COLUMNS = ("lower", "plain", "author", "gated", "kind", "least", "largest", "downloads", "likes", "created", "modified",
           "trending", "seen", "id", "license", "hash", "quants")  # fmt: skip
_HYPHENS = str.maketrans("_.", "--")
SHOWN = "id, downloads, likes, created, modified, gated, license, kind, hash, trending, files, seen"


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


def hit_of(row: Sequence[Any]) -> tuple[Hit, float]:
    """Of the columns that are `SHOWN`; and when it was seen."""
    model, downloads, likes, created, modified, gated, license_, kind, commit, trending, files, seen = row
    found = files_of(files)
    return Hit(model, downloads, likes, created, modified, gated, license_, kind, commit, found, trending), seen


def files_of(data: str) -> tuple[RepoFile, ...]:
    return tuple(RepoFile(*pair) for pair in msgspec.json.decode(data, type=list[tuple[str, int | None]]))
