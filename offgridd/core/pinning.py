"""A source and a repository's files -> what the source means, once and for all."""

from __future__ import annotations

from dataclasses import dataclass

from offgridd.core.choice import AUTO, Choice, Room, Wanted, choose
from offgridd.core.desired import DEFAULT_USE, HubSource, MemorySpec, RemoteSource, Use
from offgridd.core.errors import SHARDS_DIGEST, Failure
from offgridd.core.hub import HubFile, Pin, RepoTree
from offgridd.core.sizes import show_size
from offgridd.core.variants import Listing, RepoFile, Variant, sort_files


@dataclass(frozen=True, slots=True)
class Host:
    """What a choice depends on besides the source: `room` for `auto`, and the processor's `features`."""

    room: Room | None = None
    features: frozenset[str] = frozenset()


ANY_HOST = Host()


@dataclass(frozen=True, slots=True)
class Question:
    """What a source means: `key` names the question, `sha256` is what the manifest wants the file to hash to.

    `memory`, as a manifest declares it, bounds the choice of `auto` for the given `use`; with None nothing does.
    """

    source: RemoteSource
    key: str = ""
    sha256: str | None = None
    use: Use = DEFAULT_USE
    memory: MemorySpec | None = None


def pin(source: HubSource, tree: RepoTree, key: str, sha256: str | None, host: Host = ANY_HOST) -> Pin | Failure:
    """The files that `source` means among those of `tree`; `sha256` is what the manifest wants it to hash to."""
    listing = sort_files(RepoFile(f.path, f.size) for f in tree.files)
    found = _named(source, listing, tree) if source.file else choose(listing.variants, _wanted(source, host))
    if isinstance(found, Failure):
        return found
    by_path = {f.path: f for f in tree.files}
    files = tuple(by_path[path] for path in found.variant.files)
    if refused := _unfit(source, files, sha256):
        return refused
    quant = found.variant.quant
    return Pin(key, tree.repo, tree.commit, files, quant.name if quant else None, found.why)


def _wanted(source: HubSource, host: Host) -> Wanted:
    return Wanted(source.quants or (AUTO,), source.max_size, host.room, host.features)


def _named(source: HubSource, listing: Listing, tree: RepoTree) -> Choice | Failure:
    """The variant that the named file belongs to; what is named is taken, companion or not."""
    assert source.file is not None
    for variant in listing.variants:
        if source.file in variant.files:
            return Choice(variant, f"{source.file} was asked for")
    if all(f.path != source.file for f in tree.files):
        return _refused("FileNotInRepo", f"cannot find {source.file} in {tree.repo}: it has no such file")
    return Choice(Variant(None, (source.file,), 1, None), f"{source.file} was asked for")


def _unfit(source: HubSource, files: tuple[HubFile, ...], sha256: str | None) -> Failure | None:
    size = sum(f.size for f in files)
    if source.max_size is not None and size > source.max_size:
        most = show_size(source.max_size)
        return _refused("TooLarge", f"cannot take {files[0].path}: it has {show_size(size)}, max_size is {most}")
    if sha256 is not None and len(files) > 1:
        text = f"cannot hold {len(files)} shards against one sha256: remove sha256, the hub's of each are pinned"
        return Failure("Verified", SHARDS_DIGEST, text, terminal=True)
    if any(f.sha256 is None for f in files):
        return _refused("NoDigest", f"cannot take {files[0].path}: the hub tells no sha256 of it")
    if sha256 is not None and files[0].sha256 != sha256:
        text = f"cannot use {files[0].path}: its sha256 is {files[0].sha256}, the manifest wants {sha256}"
        return Failure("Verified", "DigestMismatch", text, terminal=True)
    return None


def _refused(reason: str, message: str) -> Failure:
    return Failure("Resolved", reason, message, terminal=True)
