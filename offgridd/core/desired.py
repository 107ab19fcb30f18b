"""Desired state: what the manifest asks for, in plain data. The only writer is `manifest`.

Fields are grouped by what a change of them costs: those in `LoadSpec` reload the model's worker, those in `source`
and `sha256` verify a file again, all others are live.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Literal

HUB = "https://huggingface.co"
DEFAULT_LISTEN = "127.0.0.1:11611"
DEFAULT_CACHE = 512 << 20  # bytes of finished prefixes
DEFAULT_CONTEXT = 8192  # what `context` is where the manifest is silent, or the trained length where that is less


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A file inside an installed Python package, used in place. `package` is the distribution's name."""

    package: str
    file: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of this host, used in place. `path` is absolute."""

    path: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is, not what it is: a file of this host, a systemd credential, or an environment variable."""

    kind: Literal["credential", "file", "env"]
    name: str


@dataclass(frozen=True, slots=True)
class HubSource:
    """A Hugging Face repository and what to choose from it.

    `endpoint` and `token` say how it is reached: no key holds them, so that a mirror changes nothing.
    """

    repo: str
    file: str | None = None
    revision: str | None = None
    quants: tuple[str, ...] = ()  # in order of preference; empty: offgridd chooses
    max_size: int | None = None  # bytes, all files of the chosen variant
    endpoint: str = HUB
    token: Secret | None = None


Source = PackageSource | FileSource | HubSource


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model and its cache lie in memory. None = the engine's choice, shown as `effective` in status."""

    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attention: bool = True
    gpu_layers: int | None = None
    main_gpu: int | None = None
    tensor_split: tuple[float, ...] = ()
    mmap: bool = True
    mlock: bool = False


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What needs a new worker when it changes. None = the engine's default, shown as `effective` in status."""

    context: int | None = None  # tokens one request may use
    parallel: int = 4  # sequences at once
    kv_cells: int | None = None  # tokens that all sequences may hold together; None = context x parallel
    threads: int | None = None  # None = adapted to how busy the machine is
    deterministic: bool = False  # the same bits in any batch
    placement: Placement = Placement()
    chat_template: str | None = None  # Jinja text; None = the one in the file


@dataclass(frozen=True, slots=True)
class Sampling:
    """Defaults of a request's sampling parameters (live). None = the API's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One declared model."""

    name: str
    source: Source
    sha256: str | None = None  # 64 lower-case hex digits
    preload: bool = True
    load: LoadSpec = LoadSpec()
    sampling: Sampling = Sampling()
    cache_ram: int = DEFAULT_CACHE  # bytes of finished prefixes that are kept in host memory
    aliases: tuple[str, ...] = ()
    description: str = ""
    drain: float = 30.0  # seconds a replaced or removed worker may go on with its requests
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class ServerSpec:
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    allowed_hosts: tuple[str, ...] = ()
    insecure: bool = False
    ready: Literal["listening", "settled", "preloaded"] = "settled"
    undeclared: Literal["serve", "refuse"] = "serve"
    offline: bool = False
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """How files are fetched and kept; all of it is live."""

    max_total: int | None = None  # bytes of all blobs
    min_free: int = 2 << 30  # bytes of the file system that are left alone
    rate: int | None = None  # bytes a second, of each file
    connections: int = 8  # for each file


@dataclass(frozen=True, slots=True)
class Desired:
    """A manifest that was accepted. `digest` is the sha256 of its normalised content; `generation` counts digests."""

    generation: int = 0
    digest: str = ""
    server: ServerSpec = ServerSpec()
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    held: tuple[str, ...] = ()  # models whose declared change is held back, because they are suspended
    store: StoreSpec = StoreSpec()
    endpoint: str = HUB  # where searches ask
    token: Secret | None = None

    def find(self, name: str) -> tuple[ModelSpec, ...]:
        """The declared models that `name` means, in the order of the first way that finds any.

        A declared name; an alias; a file's name; a repository as `owner/repo[:QUANT|/file]`. Several: the caller
        names them.
        """
        return find_in(self.models, name)


def find_in(models: Mapping[str, ModelSpec], name: str) -> tuple[ModelSpec, ...]:
    """Those of `models` that `name` means; see `Desired.find`."""
    exact = models.get(name)
    if exact is not None:
        return (exact,)
    ways: tuple[Callable[[ModelSpec], bool], ...] = (
        lambda m: name in m.aliases,
        lambda m: name == file_name(m.source),
        lambda m: name in repository_names(m.source),
    )
    return next((found for way in ways if (found := tuple(m for m in models.values() if way(m)))), ())


def hold_back(before: Desired, after: Desired) -> Desired:
    """`after`, but what is suspended stays as it was `before`; all of it, where the server is suspended.

    At the first manifest there is nothing to hold on to, and it is as declared.
    """
    if before.generation == 0:
        return after
    whole = after.server.suspend
    names = [*before.models, *(n for n in after.models if n not in before.models)] if whole else list(after.models)
    models: dict[str, ModelSpec] = {}
    for name in names:
        old, new = before.models.get(name), after.models.get(name)
        if old is not None and (whole or (new is not None and new.suspend)):
            models[name] = replace(old, suspend=True)
        elif new is not None and not whole:
            models[name] = new
    plain = {name: replace(spec, suspend=False) for name, spec in models.items()}
    held = [n for n in names if plain.get(n) != _plain(after.models.get(n))]
    return replace(after, models=models, held=tuple(held))


def _plain(spec: ModelSpec | None) -> ModelSpec | None:
    return replace(spec, suspend=False) if spec else None


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit does to one model, in the order of what it costs."""

    model: str
    kind: Literal["remove", "add", "verify", "reload", "live"]


def changes(before: Desired, after: Desired) -> tuple[Change, ...]:
    """What differs, by model. A changed source is verified, and the worker replaced where the bytes are others."""
    found: list[Change] = []
    for name in sorted({*before.models, *after.models}):
        old, new = before.models.get(name), after.models.get(name)
        if new is None:
            found.append(Change(name, "remove"))
        elif old is None:
            found.append(Change(name, "add"))
        elif source_key(old) != source_key(new):
            found.append(Change(name, "verify"))
        elif old.load != new.load:
            found.append(Change(name, "reload"))
        elif old != new:
            found.append(Change(name, "live"))
    return tuple(found)


def reached_otherwise(before: Desired, after: Desired) -> tuple[str, ...]:
    """The models whose files are asked for in another way now, so that what failed before is worth another try."""
    whole = (before.server.offline, before.store) != (after.server.offline, after.store)

    def way(spec: ModelSpec | None) -> object:
        source = spec.source if spec else None
        return (source.endpoint, source.token) if isinstance(source, HubSource) else None

    return tuple(
        name
        for name, spec in after.models.items()
        if isinstance(spec.source, HubSource) and (whole or way(before.models.get(name)) != way(spec))
    )


def file_name(source: Source) -> str | None:
    """The last part of the file that a source names."""
    path = source.path if isinstance(source, FileSource) else source.file
    return path.rpartition("/")[2] if path else None


def shown_name(spec: ModelSpec) -> str:
    """What users call a model: its declared name, or the file's where it is kept and not declared."""
    return (file_name(spec.source) or spec.name) if "/" in spec.name else spec.name


def repository_names(source: Source) -> tuple[str, ...]:
    """The ways to name a source by its repository."""
    if not isinstance(source, HubSource):
        return ()
    named = [f"{source.repo}/{source.file}"] if source.file else []
    return (source.repo, *(f"{source.repo}:{quant}" for quant in source.quants), *named)


# The keys below are asked for at every pass of the loop, for every model; specs are immutable, so once is enough.


def stable_key(*parts: object) -> str:
    """A short name for plain data: 16 hex digits of the sha256 of its canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@lru_cache(maxsize=8192)
def source_key(spec: ModelSpec) -> str:
    """Changes when the file has to be found and verified again. Where it comes from and its declared sha256."""
    source = spec.source
    if isinstance(source, HubSource):
        source = replace(source, endpoint=HUB, token=None)
    return stable_key(type(source).__name__, asdict(source), spec.sha256)


@lru_cache(maxsize=8192)
def load_key(spec: ModelSpec, file_sha256: str, engine: str) -> str:
    """Changes when the worker has to be replaced: the bytes, the load fields, the engine build."""
    return stable_key(file_sha256, asdict(replace(spec.load, chat_template=None)), _text_key(spec.load), engine)


@lru_cache(maxsize=1024)
def _template_key(template: str) -> str:
    return stable_key(template)


def _text_key(load: LoadSpec) -> str | None:
    """A thousand models may share one long template: it is hashed once."""
    return _template_key(load.chat_template) if load.chat_template is not None else None
