"""What is taken over from other programs of this machine: candidates, what is said of them, what they are kept as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from offgridd.core.desired import LOWEST_PRIORITY, HubSource, ModelSpec, UrlSource
from offgridd.core.garbage import KEPT
from offgridd.core.hub import HubFile, Pin, as_sha256, is_path, is_repo
from offgridd.core.keys import source_key
from offgridd.core.quant import find_quant
from offgridd.core.variants import RepoFile, all_shards, as_shard, sort_files

TOOLS = ("huggingface", "llama.cpp", "ollama", "lmstudio", "jan")
FILES = "files"  # the tool of what was named by its path
KEPT_IDLE = 600.0  # seconds that a kept file stays loaded when nobody asks for it
MOST_FILES = 128  # shards of one model: what one message may hand over
_COMMIT = re.compile(r"[0-9a-f]{40}|")
_HARMLESS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Found:
    """A file on this machine. `path` is its name in the repository, `sha256` what the program that has it says."""

    where: str
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A whole model: all of its shards, in their order. `commit` is empty where nobody knows it."""

    tool: str
    repo: str
    commit: str
    files: tuple[Found, ...]

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    @property
    def quant(self) -> str | None:
        return quant_of(self.files[0].path)


@dataclass(frozen=True, slots=True)
class Offer:
    """What whoever hands over descriptors says of them, one for each file. Nothing of it is believed."""

    tool: str
    repo: str
    commit: str
    files: tuple[HubFile, ...]  # `sha256` None: nobody has said


def own_repo(tool: str) -> str:
    """Where the files of a program are kept that knows no repository."""
    return f"adopted/{tool}"


def harmless(name: str) -> str:
    """`name` as a part of a path that every shell and terminal can take."""
    return _HARMLESS.sub("-", name).strip("-.") or "model"


def quant_of(path: str) -> str | None:
    found = find_quant(as_shard(path)[0].rpartition("/")[2])
    return found.name if found else None


def whole_models(tool: str, repo: str, commit: str, files: Iterable[Found]) -> list[Candidate]:
    """The models among the files of a repository, without what only accompanies one and without what is incomplete."""
    by_path = {f.path: f for f in files}
    listing = sort_files(RepoFile(f.path, f.size) for f in by_path.values())
    return [
        Candidate(tool, repo, commit, tuple(by_path[path] for path in variant.files))
        for variant in listing.variants
        if variant.complete
    ]


def without_twins(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each model once: two programs may have the same file, or the same bytes by what they say of them."""
    seen: set[tuple[str, ...]] = set()
    made = []
    for one in candidates:
        keys = {tuple(f.where for f in one.files), tuple(f.sha256 or f.where for f in one.files)}
        if not keys & seen:
            made.append(one)
        seen |= keys
    return made


def why_refused(offer: Offer, descriptors: int) -> str:
    """Why nothing can be made of an offer; "" where something can."""
    if offer.tool not in (*TOOLS, FILES):
        return f"there is no tool {offer.tool[:32]!r}"
    if not is_repo(offer.repo) or not _COMMIT.fullmatch(offer.commit):
        return "its repository is no owner/repo, or its commit no commit"
    if not 0 < len(offer.files) <= MOST_FILES or descriptors != len(offer.files):
        return f"{descriptors} files came for {len(offer.files)} names; there may be {MOST_FILES}"
    paths = tuple(f.path for f in offer.files)
    if not all(_is_name(path) for path in paths) or (len(paths) > 1 and paths != all_shards(paths[0])):
        return "its names are no paths of GGUF files, or not those of all shards"
    if any(f.sha256 is not None and as_sha256(f.sha256) != f.sha256 for f in offer.files):
        return "what should be its sha256 is none"
    return ""


def pin_of(offer: Offer, digests: Mapping[str, str], sizes: Mapping[str, int]) -> Pin:
    """What the files are kept as; `digests` and `sizes` by path, as they were found to be."""
    files = tuple(HubFile(f.path, sizes[f.path], digests[f.path]) for f in offer.files)
    named = all(f.sha256 for f in offer.files)
    why = "its sha256 is what its name says" if named else "nobody had said its sha256: trusted on first use"
    pin = Pin("", offer.repo, offer.commit, files, quant_of(files[0].path), f"adopted from {offer.tool}; {why}")
    return replace(pin, key=source_key(kept_spec(kept_name(pin), pin)))


def answers(offer: Offer, pin: Pin) -> tuple[str, ...]:
    """The keys of the questions of a manifest that the files are known to answer: only `this file at this commit`."""
    if not offer.commit or not all(f.sha256 for f in offer.files):
        return ()
    return (source_key(ModelSpec("m", HubSource(pin.repo, pin.files[0].path, pin.commit))),)


def kept_name(pin: Pin) -> str:
    return f"{KEPT}{pin.repo}/{pin.files[0].path}"


def kept_spec(name: str, pin: Pin) -> ModelSpec:
    """A file that is kept, as a model. An empty revision, which no manifest can ask for, says that no hub is known."""
    quants = (pin.quant,) if pin.quant else ()
    source = HubSource(pin.repo, pin.files[0].path, pin.commit, quants)
    return ModelSpec(name, source, preload=False, priority=LOWEST_PRIORITY - 1, idle_unload=KEPT_IDLE)


def web_pin(source: UrlSource, found: Pin) -> Pin | None:
    """What a file of the web that `found` names is kept as; None where its name can be none."""
    host, path = urlsplit(source.url).hostname or "", found.files[0].path
    if not _is_name(path):
        return None
    pin = replace(found, repo=f"web/{harmless(host)[:96]}", quant=quant_of(path))
    return replace(pin, key=source_key(kept_spec(kept_name(pin), pin)))


def _is_name(path: str) -> bool:
    parts = path.split("/")
    return is_path(path) and path.lower().endswith(".gguf") and not {"", ".", ".."} & set(parts) and "\\" not in path
