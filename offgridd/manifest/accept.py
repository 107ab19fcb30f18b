"""The one door of the package: manifest text in, `Desired` out, or every problem that was found.

The daemon's reload and `offgrid check` call it, in a thread. It reads nothing from disk and decides nothing about
what is there: the same text gives the same answer on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from offgridd.core.adapters import as_model
from offgridd.core.choice import AUTO
from offgridd.core.desired import (
    HUB,
    AdapterSpec,
    Desired,
    FileSource,
    HubSource,
    LoadSpec,
    MemorySpec,
    ModelSpec,
    PackageSource,
    Placement,
    Sampling,
    Secret,
    ServerSpec,
    Source,
    StoreSpec,
    UrlSource,
)
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.gitsource import is_fetched
from offgridd.core.locking import LOCK_FILE, Lock, locked
from offgridd.core.tuned import TUNABLE
from offgridd.manifest import sections, values
from offgridd.manifest.benchmarksection import benchmark_of
from offgridd.manifest.digest import digest_of, names_of
from offgridd.manifest.lockfile import read_lock
from offgridd.manifest.merge import origins
from offgridd.manifest.nodes import MapNode, Path, locate
from offgridd.manifest.problems import show
from offgridd.manifest.reading import MAX_PROBLEMS, SourceText, read

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A manifest that is valid. `desired.generation` is 0: who knows the generation before sets it."""

    desired: Desired
    root: MapNode  # all files together

    @property
    def origins(self) -> Mapping[str, str]:
        """`models.qwen.context` -> `FILE:LINE`."""
        return origins(self.root)


def accept_files(files: Sequence[tuple[str, bytes]]) -> Accepted:
    """Names and texts: the manifest first, then its conf.d and its lock, and what its `git` has fetched, in that order.

    A lock and what was fetched are told by their names. As `accept`.
    """
    own, fetched = _halves(files)
    (main, *fragments), lock = _without_lock(own)
    theirs, their_lock = _without_lock(fetched)
    found = accept(main, fragments, their_lock if fetched else lock, theirs)
    if found.desired.git is not None and lock is not None:
        message = "cannot use this lock: 'git' says that the repository has it; remove this one"
        raise ManifestError((Problem("ConflictingFields", message, lock.name),))
    return found


def accept_fetched(files: Sequence[tuple[str, bytes]]) -> Accepted:
    """The files of a folder as a host takes them whose `git` names it. Raises ManifestError."""
    host = SourceText(
        "the host's manifest", f"apiVersion: {sections.API_VERSION}\ngit: {{url: file:///any}}\n".encode()
    )
    theirs, lock = _without_lock([SourceText(*one) for one in files])
    return accept(host, (), lock, theirs)


def _halves(files: Sequence[tuple[str, bytes]]) -> tuple[list[SourceText], list[SourceText]]:
    """The host's own, of which the manifest is one whatever its name, and those that were fetched."""
    sources = [SourceText(*one) for one in files]
    fetched = [one for one in sources[1:] if is_fetched(one.name)]
    return [one for one in sources if one not in fetched], fetched


def _without_lock(sources: Sequence[SourceText]) -> tuple[list[SourceText], SourceText | None]:
    lock = next((one for one in sources[1:] if is_lock(one.name)), None)
    return [one for one in sources if one is not lock], lock


def is_lock(name: str) -> bool:
    """Whether a file of this name is a lock."""
    return name.rpartition("/")[2] == LOCK_FILE


def accept(
    main: SourceText,
    fragments: Sequence[SourceText] = (),
    lock: SourceText | None = None,
    fetched: Sequence[SourceText] = (),
) -> Accepted:
    """Read `main` with `fragments` (conf.d, in their order) laid over it, under `lock`. Raises ManifestError.

    `fetched` is the same of its `git`, which the lock then belongs to.
    """
    root, manifest = read((main, *fragments), fetched)
    if lock is not None and (problems := list(_against_lock(root, manifest))):
        raise ManifestError(tuple(problems[:MAX_PROBLEMS]))
    desired = _desired(manifest, read_lock(lock.name, lock.text) if lock else None)
    return Accepted(dataclasses.replace(desired, digest=digest_of(desired, sections.API_VERSION)), root)


def _against_lock(root: MapNode, manifest: sections.Manifest) -> Iterator[Problem]:
    """A lock says what files are: nothing is taken by itself beside it."""
    for name, model in manifest.models.items():
        own = "updates" in model.model_fields_set
        if model.source.hf is not None and (model if own else manifest.defaults).updates == "auto":
            path: Path = ("models", name, "updates") if own else ("defaults", "updates")
            message = f"cannot use 'updates: auto' for {show(name)}: there is a lock; run offgrid lock --update instead"
            yield Problem("ConflictingFields", message, *locate(root, path)[0])


def merged(files: Sequence[tuple[str, bytes]]) -> MapNode:
    """The manifest that the files make together, once it is known to be valid. Raises ManifestError."""
    return read(*_halves([one for one in files if not is_lock(one[0])]))[0]


def _desired(manifest: sections.Manifest, lock: Lock | None) -> Desired:
    defaults = manifest.defaults.given()
    models = {name: _model(name, model, defaults) for name, model in sorted(manifest.models.items())}
    if lock is not None:
        models = {name: _locked(spec, lock) for name, spec in models.items()}
    store = StoreSpec(**manifest.store.given())
    memory, endpoint = _memory(manifest.server.memory), defaults.get("endpoint", HUB)
    server = _pick(ServerSpec, {**manifest.server.given(), "memory": memory})
    git = manifest.git.spec() if manifest.git else None
    return Desired(server=server, store=store, models=models, endpoint=endpoint, token=_token(defaults, {}), git=git)


def _locked(spec: ModelSpec, lock: Lock) -> ModelSpec:
    adapters = [dataclasses.replace(one, lock=locked(as_model(spec, one), lock)) for one in spec.load.adapters]
    load = dataclasses.replace(spec.load, adapters=tuple(adapters)) if adapters else spec.load
    return dataclasses.replace(spec, lock=locked(spec, lock), load=load)


def _memory(memory: sections.Memory) -> MemorySpec:
    gpu = tuple(sorted((int(number), size) for number, size in memory.gpu.items()))
    if isinstance(memory.ram, str):
        return MemorySpec(share=int(memory.ram.removesuffix("%")), gpu=gpu)
    return MemorySpec(memory.ram, gpu=gpu)


def _model(name: str, model: sections.Model, defaults: Mapping[str, Any]) -> ModelSpec:
    given = {**defaults, **model.given()}
    given["token"] = _token(defaults, model.given())
    benchmark = benchmark_of([one for one in (defaults.get("benchmark"), model.benchmark) if one is not None])
    parts: dict[str, Any] = {
        "name": name,
        "source": _source(model.source, given),
        "load": _pick(LoadSpec, {**given, **_of_sections(given), "placement": _pick(Placement, given)}),
        "sampling": _pick(Sampling, given),
        "benchmark": benchmark,
    }
    if benchmark is not None and benchmark.tune != "off":
        parts["tunable"] = tuple(field for field in TUNABLE if field not in given)
    if "cache" in given:
        parts["cache_ram"], parts["cache_disk"] = given["cache"].ram, given["cache"].disk
    return _pick(ModelSpec, {**given, **parts})


def _of_sections(given: Mapping[str, Any]) -> dict[str, Any]:
    """What sections of a model say of how it is loaded."""
    found: dict[str, Any] = {}
    if "speculative" in given:
        found["lookup"], found["draft"] = given["speculative"].lookup, given["speculative"].draft
    if "cache" in given:
        found["persist"] = given["cache"].persist
    if "adapters" in given:
        way = {key: given[key] for key in ("endpoint", "token") if key in given}
        found["adapters"] = tuple(
            AdapterSpec(name, _source(one.source, way), one.sha256, one.scale)
            for name, one in sorted(given["adapters"].items())
        )
    return found


def _pick(kind: Callable[..., _T], given: Mapping[str, Any]) -> _T:
    return kind(**{name: given[name] for name in names_of(kind) if name in given})


def _source(source: sections.Source, given: Mapping[str, Any]) -> Source:
    file = source.file
    if source.hf is not None:
        inner = values.inner_path(file) if file is not None else None
        quants = given.get("quant", ()) if file is None else ()  # a default for all does not choose twice
        asked = () if quants == (AUTO,) else quants
        endpoint, token = given.get("endpoint", HUB), given.get("token")
        return HubSource(source.hf, inner, source.revision, asked, given.get("max_size"), endpoint, token)
    if source.url is not None:
        return UrlSource(source.url, given.get("max_size"))
    if file is None:
        raise AssertionError("rules let a source without a file pass")
    if source.package is not None:
        return PackageSource(source.package, values.inner_path(file))
    return FileSource(values.host_path(file))


def _token(defaults: Mapping[str, Any], model: Mapping[str, Any]) -> Secret | None:
    """The token of a model: it goes to the endpoint that stands beside it, and to no mirror named elsewhere."""
    place = model if "token" in model else defaults
    token, endpoint = place.get("token"), {**defaults, **model}.get("endpoint", HUB)
    if token is None or endpoint != place.get("endpoint", HUB):
        return None
    found: Secret = token.secret()
    return found
