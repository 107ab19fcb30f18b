"""A repository's files -> the variants of its model that one can choose from, and what only accompanies them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from offgridd.core.quant import Quant, find_quant

_SHARD = re.compile(r"(?i)(.+)-(\d{5})-of-(\d{5})$")
IMATRIX_MOST = 2 << 30  # bytes: what is larger and says imatrix is a model that was made with one
_DRAFT = re.compile(r"(?:^|/)(?:mtp|draft)-|(?:^|/)(?:mtp|drafts?)/|(?:^|[-_./])(?:eagle3?|dflash|dspark)(?:[-_.]|$)")
_OTHER = re.compile(
    r"(?:^|/)(?:(?:audio|tts|vision|vocoder|tokenizer|token2wav)[^/]*/|(?:tokenizer|vocoder)(?:[-_.]|$))"
)
Kind = Literal["mmproj", "imatrix", "draft", "other"]


@dataclass(frozen=True, slots=True)
class RepoFile:
    """`size` in bytes; None where only the name is known."""

    path: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to have the model. `files` in the order of their shards; `shards` how many there should be."""

    quant: Quant | None
    files: tuple[str, ...]
    shards: int
    total_bytes: int | None

    @property
    def complete(self) -> bool:
        return len(self.files) == self.shards

    @property
    def loadable(self) -> bool | None:
        """None where the name does not tell."""
        return self.quant.loadable if self.quant else None

    @property
    def filename(self) -> str:
        return self.files[0]


@dataclass(frozen=True, slots=True)
class Listing:
    """`variants` from small to large, those of unknown size last."""

    variants: tuple[Variant, ...]
    companions: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)


def sort_files(files: Iterable[RepoFile]) -> Listing:
    """Tells variants from companions. Files that are no GGUF are passed over."""
    found = [f for f in files if f.path.lower().endswith(".gguf")]
    kinds = {f.path: _companion(f) for f in found}
    if not any(kind is None for kind in kinds.values()):  # nothing else is there: then it is what the name calls it,
        kinds = {path: None if kind == "imatrix" else kind for path, kind in kinds.items()}  # unless made with one
    groups: dict[tuple[str, int], dict[int, RepoFile]] = defaultdict(dict)
    for file in found:
        if kinds[file.path] is None:
            stem, number, count = as_shard(file.path)
            groups[stem, count][number] = file
    companions: dict[Kind, tuple[str, ...]] = {}
    for kind in ("mmproj", "imatrix", "draft", "other"):
        paths = sorted(path for path, found_kind in kinds.items() if found_kind == kind)
        companions |= {kind: tuple(paths)} if paths else {}
    variants = [_variant(stem, count, shards) for (stem, count), shards in groups.items()]
    variants.sort(key=lambda v: (v.total_bytes is None, v.total_bytes or 0, v.filename))
    return Listing(tuple(variants), companions)


def all_shards(path: str) -> tuple[str, ...]:
    """The paths of all shards of the model that a file is one of; of a whole file its own."""
    stem, _, count = as_shard(path)
    ending = path[-len(".gguf") :]
    return (path,) if count == 1 else tuple(f"{stem}-{n:05}-of-{count:05}{ending}" for n in range(1, count + 1))


def as_shard(path: str) -> tuple[str, int, int]:
    """Stem with its folder, number and count of a file; 1 of 1 where it is whole."""
    stem = path[: -len(".gguf")]
    match = _SHARD.match(stem)
    if match is None or not 1 <= int(match[2]) <= int(match[3]):
        return stem, 1, 1
    return match[1], int(match[2]), int(match[3])


def _variant(stem: str, count: int, shards: Mapping[int, RepoFile]) -> Variant:
    folder, _, name = stem.rpartition("/")
    files = [shards[number] for number in sorted(shards)]
    sizes = [f.size for f in files if f.size is not None]
    total = sum(sizes) if len(sizes) == len(files) == count else None
    quant = find_quant(name) or find_quant(folder.rpartition("/")[2])
    return Variant(quant, tuple(f.path for f in files), count, total)


def _companion(file: RepoFile) -> Kind | None:
    path = file.path.lower()[: -len(".gguf")]
    stem = path.rpartition("/")[2]
    if "mmproj" in stem:
        return "mmproj"
    small = file.size is None or file.size < IMATRIX_MOST
    if "imatrix" in stem and small and (stem.startswith("imatrix") or find_quant(as_shard(file.path)[0]) is None):
        return "imatrix"
    if _DRAFT.search(path):
        return "draft"
    return "other" if _OTHER.search(path) else None
