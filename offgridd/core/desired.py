"""Desired state: what the manifest asks for, in plain data. The only writer is `manifest`.

Fields are grouped by what a change of them costs: those in `LoadSpec` reload the model's worker, those in `source`
and `sha256` verify a file again, all others are live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from offgridd.core.benchmark import BenchmarkSpec, Tune
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin

HUB = "https://huggingface.co"
DEFAULT_LISTEN = "127.0.0.1:11611"
DEFAULT_CACHE = 512 << 20  # bytes of finished prefixes
DEFAULT_DISK = 4 << 30  # bytes of them on disk, where they are kept there
LOWEST_PRIORITY, HIGHEST_PRIORITY = -1000, 1000  # that a manifest may declare; what is kept is below
Setting = int | str | bool | None  # of one load field; None: the engine's own choice
Settings = tuple[tuple[str, Setting], ...]  # by name, sorted; only what is not as where the manifest is silent
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


@dataclass(frozen=True, slots=True)
class UrlSource:
    """One file anywhere on the web. Which bytes it must be says the model's sha256, so no place of it is trusted."""

    url: str
    max_size: int | None = None  # bytes


RemoteSource = HubSource | UrlSource
Source = PackageSource | FileSource | RemoteSource


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
class AdapterSpec:
    """A LoRA adapter beside a model: requests name it."""

    name: str
    source: Source
    sha256: str | None = None
    scale: float = 1.0
    lock: Pin | Failure | None = None  # what offgridd.lock says of its source


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
    pooling: Literal["auto", "mean", "cls", "last", "rank"] = "auto"  # of a text; auto: as the file says
    sandbox: Literal["preferred", "required"] = "preferred"
    lookup: bool = False  # what comes next is guessed from what was there
    persist: bool = False  # finished prefixes are kept on disk, too
    adapters: tuple[AdapterSpec, ...] = ()
    draft: str | None = None  # the model of this manifest that guesses for it


@dataclass(frozen=True, slots=True)
class Use:
    """How a model will be used, as far as its memory depends on that. `cache`: bytes of finished prefixes."""

    load: LoadSpec = LoadSpec()
    cache: int = DEFAULT_CACHE


DEFAULT_USE = Use()


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
    cache_disk: int = DEFAULT_DISK  # bytes of them on disk, where they are kept there
    aliases: tuple[str, ...] = ()
    description: str = ""
    dimensions: tuple[int, ...] = ()  # lengths that its vectors may be cut to
    drain: float = 30.0  # seconds a replaced or removed worker may go on with its requests
    suspend: bool = False
    priority: int = 0  # the higher one stays where memory is short
    pin: bool = False  # it never makes room
    idle_unload: float | None = None  # seconds after its last request; for what is loaded on demand
    updates: Literal["manual", "notify", "auto"] = "notify"
    check_every: float = 86400.0  # seconds between two looks for something newer
    lock: Pin | Failure | None = None  # what offgridd.lock says of its source; None: there is no lock
    benchmark: BenchmarkSpec | None = None
    challenger: bool = False  # it is no model of its own: what is declared of one, beside what serves
    adapter_of: str | None = None  # it is none, but an adapter of this one
    tunable: tuple[str, ...] = ()  # load fields that tuning may search: the manifest does not give them
    tuned: Settings = ()  # what tuning has set of `load`; never by the manifest

    @property
    def disk(self) -> int:
        """Bytes of finished prefixes that its worker may keep on disk."""
        return self.cache_disk if self.load.persist else 0

    @property
    def holds(self) -> bool:
        return self.benchmark is not None and self.benchmark.holds

    @property
    def tunes(self) -> Tune:
        return self.benchmark.tune if self.benchmark is not None else "off"


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """What models may take: `ram` bytes, or `share` percent of what there is; `gpu`: number and bytes of each."""

    ram: int | None = None
    share: int | None = None
    gpu: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSpec:
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    allowed_hosts: tuple[str, ...] = ()
    insecure: bool = False
    ready: Literal["listening", "settled", "preloaded"] = "settled"
    undeclared: Literal["serve", "refuse"] = "serve"
    offline: bool = False
    suspend: bool = False
    memory: MemorySpec = MemorySpec()


@dataclass(frozen=True, slots=True)
class MinRate:
    """What a connection has to bring at least: `rate` bytes a second, over so many seconds."""

    rate: int = 1 << 10
    over: float = 60.0


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """How files are fetched and kept; all of it is live."""

    max_total: int | None = None  # bytes of all blobs
    min_free: int = 2 << 30  # bytes of the file system that are left alone
    rate: int | None = None  # bytes a second, of each file
    connections: int = 8  # for each file
    min_rate: MinRate = MinRate()
    grace: float = 168 * 3600.0  # seconds that a blob stays when nothing refers to it, while the daemon runs
    prune: Literal["never", "report", "delete"] = "report"  # what is done by itself about what nothing refers to
    verify_every: float = 720 * 3600.0  # seconds after which files are read again; 0 = never
    allow_empty: bool = False  # what nothing refers to may go, also where no model is declared


@dataclass(frozen=True, slots=True)
class GitSpec:
    """A folder of a Git repository that says which models there are."""

    url: str
    ref: str | None = None  # None: what its HEAD names
    path: str = "."  # the folder in it
    interval: float = 60.0  # seconds between two looks
    signers: str | None = None  # a file of this host: whose commits are taken; None: everyone's
    token: Secret | None = None

    def same_history(self, other: GitSpec) -> bool:
        """Whether both follow one branch, so that what was accepted of it counts."""
        return (self.url, self.ref) == (other.url, other.ref)

    def same_content(self, other: GitSpec) -> bool:
        """Whether a commit that is good for one is good for the other and says the same."""
        return self.same_history(other) and (self.path, self.signers) == (other.path, other.signers)


@dataclass(frozen=True, slots=True)
class Desired:
    """A manifest that was accepted. `digest` is the sha256 of its normalised content; `generation` counts digests."""

    generation: int = 0
    digest: str = ""
    server: ServerSpec = ServerSpec()
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    held: tuple[str, ...] = ()  # models whose declared change is held back, because they are suspended
    challengers: Mapping[str, ModelSpec] = field(default_factory=dict)  # changes that have to prove themselves first
    store: StoreSpec = StoreSpec()
    endpoint: str = HUB  # where searches ask
    token: Secret | None = None
    git: GitSpec | None = None  # where the models come from, where that is not the manifest itself
