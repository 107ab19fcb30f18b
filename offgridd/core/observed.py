"""Observed state: facts about the machine, never phases. The only writer is the loop, through `core.fold`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from offgridd.core.desired import AdapterSpec, ModelSpec
from offgridd.core.errors import Failure, Problem
from offgridd.core.gitsource import GitFacts
from offgridd.core.hub import Pin
from offgridd.core.shape import Shape
from offgridd.core.tuned import Trial, Tuning
from offgridd.core.updates import Look


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a file that was hashed before from another one at the same path."""

    dev: int
    inode: int
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What a GGUF says of itself, as far as we use it. Text is as in the file: escape it before showing it."""

    architecture: str
    name: str
    file_type: int | None  # llama_ftype
    context_length: int  # trained, tokens
    block_count: int
    embedding_length: int
    head_count: int
    vocab_size: int
    tensor_count: int
    tensor_bytes: int  # sum of the tensors' data
    has_chat_template: bool
    shape: Shape = Shape()  # what its memory depends on


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a model, as it was hashed."""

    path: str
    identity: Identity
    sha256: str


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """An adapter's file, as it was hashed for what was declared."""

    spec: AdapterSpec
    part: Part


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A model's file, or its first shard, whose header was checked and whose content was hashed."""

    path: str
    identity: Identity
    sha256: str
    header: ModelHeader  # of all shards together
    source_key: str  # of the spec that it was verified for
    shards: tuple[Part, ...] = ()  # the others, in their order
    adapters: tuple[AdapterPart, ...] = ()  # in the order in which they are declared
    draft: VerifiedFile | None = None  # of the model that guesses for this one

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self.path, self.identity, self.sha256), *self.shards)

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.identity.size for part in self.parts)

    @property
    def sha256s(self) -> Iterator[str]:
        """Of all that a worker has open."""
        yield from (part.sha256 for part in (*self.parts, *(one.part for one in self.adapters)))
        yield from (part.sha256 for part in (self.draft.parts if self.draft is not None else ()))

    @property
    def content(self) -> str:
        """What tells its bytes from other bytes, wherever they lie."""
        return " ".join(part.sha256 for part in self.parts)

    @property
    def key(self) -> str:
        """The same of all that a worker loads."""
        adapters = "".join(f" adapter {one.part.sha256}" for one in self.adapters)
        return self.content + adapters + (f" draft {self.draft.content}" if self.draft is not None else "")


@dataclass(frozen=True, slots=True)
class Retry:
    """What is known of an action that failed: for which key, how often in a row, and when it may run again."""

    key: str
    failure: Failure
    count: int
    at: float | None  # monotonic seconds; None = not until the key changes or `reconcile`


@dataclass(frozen=True, slots=True)
class Effective:
    """What a worker really runs with."""

    context: int
    parallel: int
    cells: int  # tokens that all sequences may hold together
    threads: int
    template: str | None  # why chat templates can not be used, None = they can
    cache_types: tuple[str, str] = ("f16", "f16")  # of keys and values
    adaptive: bool = False  # the number of threads follows the load of the machine, up to `threads`
    deterministic: bool = False
    memory: str = ""  # of the sequences: one buffer | a buffer each | whole states
    unconfined: tuple[str, ...] = ()  # what its process could not give up, in words
    tools: str = ""  # native: its template tells of them; prompted: we do
    reasoning: bool = False  # is told apart from what is answered
    pooling: str = ""  # mean | cls | last | rank; "" where it is a model for text
    vector: int = 0  # numbers in one of its vectors
    adapters: tuple[str, ...] = ()  # that requests may name


@dataclass(frozen=True, slots=True)
class Charge:
    """Bytes that a worker may take: of its own, pages of its file, and of GPUs by their number."""

    own: int
    shared: int = 0
    file: str = ""  # whose pages they are: who maps the same ones shares them
    gpu: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Worker:
    """A live process of a model. `ready` once it has loaded; `stopping` once it was told to finish."""

    id: int
    load_key: str
    pid: int
    ready: bool = False
    stopping: bool = False
    cache_ram: int = 0  # bytes of finished prefixes that it was told to keep
    cache_disk: int = 0  # and on disk
    effective: Effective | None = None
    charge: Charge = Charge(0)
    ready_at: float = 0.0  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Eviction:
    """When a model made room, monotonic, and for whom, in words."""

    at: float
    by: str


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark of a model on this machine. `kinds`: the label and medians of each; `text`: the first in words."""

    load_key: str
    text: str
    bench_key: str = ""
    at: float = 0.0  # seconds since the epoch
    kinds: tuple[tuple[str, Mapping[str, float]], ...] = ()
    disturbed: bool = False
    least: float | None = None  # of its rates to the best ones so far the lowest, at best; None: there were none
    least_text: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of measuring for `key`, a bench_key, beside results: why there is none, or that it is worse."""

    key: str
    status: Literal["False", "Unknown"]
    reason: str
    message: str
    count: int = 1  # in a row
    again: float | None = None  # monotonic seconds; None = not until the key changes or somebody asks for it


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Everything that is known of one model name."""

    file: VerifiedFile | None = None
    workers: tuple[Worker, ...] = ()
    verify_retry: Retry | None = None
    start_retry: Retry | None = None
    crashes: tuple[float, ...] = ()  # monotonic times of the present load key's crashes, newest last
    crash_key: str = ""  # the load key that they belong to
    drain: float = 30.0  # seconds for the workers of a model that was removed
    demanded: bool = False  # somebody asked for it (a model without preload starts then)
    asked_at: float = 0.0  # since when that is so, monotonic
    leaving: bool = False  # somebody asked for its end (a model without preload stops then)
    uses: int = 0  # requests that it answers, and that wait for it
    used_at: float = 0.0  # when the last of them ended, monotonic
    evicted: Eviction | None = None  # and not loaded since
    peaks: Mapping[str, int] = field(default_factory=dict)  # by load key, the most that a worker took of its own
    pin: Pin | None = None  # of a source that is a hub's
    network: bool = False  # its hub is asked, or its bytes are on their way
    look: Look | None = None  # the newest, for something newer
    results: tuple[Result, ...] = ()  # the newest of each bench_key, the newest last
    verdict: Verdict | None = None  # on what is declared
    draftless: Retry | None = None  # why its draft's file is not there, and will not be by waiting alone
    adapterless: Retry | None = None  # the same of one of its adapters
    gently: bool = False  # nobody but us asked for it: it must not make others leave

    def serving(self) -> Worker | None:
        """The worker that new requests go to: the newest one that is ready and not stopping."""
        return next((w for w in reversed(self.workers) if w.ready and not w.stopping), None)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this machine has: bytes of RAM, None = not known, and what its processor says that it can do."""

    memory: int | None = None
    features: frozenset[str] = frozenset()
    gpu: bool = False  # there is one, and the engine is built for one
    kind: str = ""  # what makes measurements of two machines incomparable
    cores: int = 1  # that we may use


@dataclass(frozen=True, slots=True)
class Short:
    """Why there is no room for a model. `passes`: others are busy, or on their way out: waiting makes sense."""

    failure: Failure
    passes: bool = False


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What is known of the manifest file beside the desired state that came from it."""

    problems: tuple[Problem, ...] = ()  # of the newest text, when it was refused
    reason: str = ""  # of the refusal
    from_last_good: bool = False  # desired came from the copy in the state directory
    watch_error: str = ""
    state_error: str = ""
    git: GitFacts | None = None  # of the repository that the newest text names
    pending: bool = False  # the newest text waits for that, and what was desired before stays


@dataclass(frozen=True, slots=True)
class Observed:
    """The whole. `running` maps a model's name to the key of the one action that runs for it."""

    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)
    manifest: ManifestFacts = ManifestFacts()
    engine: str = ""  # the engine's build, part of every load key
    listening: bool = False
    stopping: bool = False  # the daemon ends
    kept: Mapping[str, ModelSpec] = field(default_factory=dict)  # files that are served and not declared
    starting: Mapping[str, Charge] = field(default_factory=dict)  # by model, a worker whose process is not there yet
    host: HostFacts = HostFacts()
    short: Mapping[str, Short] = field(default_factory=dict)  # by model, what the newest plan said
    challenged: frozenset[str] = frozenset()  # models of which a newer file is tried beside the one that serves
    tunings: Mapping[str, Tuning] = field(default_factory=dict)  # by model, how far the search for faster settings is
    trial: Trial | None = None  # what that has loaded beside what serves

    def of(self, name: str) -> ModelFacts:
        return self.models.get(name, NO_FACTS)


NO_FACTS = ModelFacts()
