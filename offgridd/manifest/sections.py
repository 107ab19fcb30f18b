"""The manifest's format `offgridd/v1`: sections, fields, types and ranges, each with its description.

`accept` validates with it, `jsonschema` documents it. One field is judged alone here; what needs two is in `rules`.
A field stands here only when this version honours it; what is only planned goes into its section's `not_yet`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from offgridd.core.choice import AUTO
from offgridd.core.desired import (
    DEFAULT_CACHE,
    DEFAULT_CONTEXT,
    DEFAULT_DISK,
    DEFAULT_LISTEN,
    HIGHEST_PRIORITY,
    HUB,
    LOWEST_PRIORITY,
    LoadSpec,
)
from offgridd.manifest import values
from offgridd.manifest.benchmarksection import Benchmark
from offgridd.manifest.fields import (
    Address,
    Alias,
    CacheSize,
    Dimension,
    Duration,
    Endpoint,
    Gpu,
    Host,
    Interval,
    KvType,
    Name,
    Quants,
    Section,
    Share,
    Size,
    SizeOrShare,
    Stop,
    WebAddress,
    live,
    reload,
    verify,
)
from offgridd.manifest.gitsection import Git
from offgridd.manifest.storesection import Store
from offgridd.manifest.token import Token

API_VERSION: Final = "offgridd/v1"
MAX_TEMPLATE: Final = 256 * 1024
MAX_STOPS: Final = 16
MAX_INT32: Final = 2**31 - 1


class Memory(Section):
    """What models may take of this machine's memory. Without it the choice of a file knows no limit."""

    ram: SizeOrShare | None = live(
        None, "A size, or a share of what there is: the smaller of the machine's memory and the cgroup's limit."
    )
    gpu: dict[Gpu, Size] = live({}, "Sizes by the number of a GPU.", max_length=32)


class Server(Section):
    """How the daemon serves."""

    not_yet = frozenset({"keys"})

    listen: list[Address] = live(
        [DEFAULT_LISTEN],
        "Addresses of the API, as host:port or [v6]:port. A new one is bound before an old one is closed.",
        min_length=1,
        max_length=16,
    )
    allowed_hosts: list[Host] = live(
        [], "Names that a request's Host header may have, besides loopback names and bound addresses.", max_length=64
    )
    insecure: bool = live(False, "Allow addresses beyond loopback although the API asks for no key.")
    ready: Literal["listening", "settled", "preloaded"] = live(
        "settled",
        "When the service counts as started: its socket listens; every preload model is Ready, waits for the network "
        "or has failed; or every preload model is Ready.",
    )
    undeclared: Literal["serve", "refuse"] = live(
        "serve", "Whether files that were pulled but not declared are served by their name."
    )
    offline: bool = live(False, "Make no request to any hub; what is missing stays missing.")
    memory: Memory = Field(default_factory=Memory, description="What models may take of the memory.")
    suspend: bool = live(False, "Freeze all changes and go on serving; crashed workers are still restarted.")


class Source(Section):
    """Where the file is: `package` with `file`, `file` alone, `hf`, or `url`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["package", "file"], "properties": {"hf": False, "url": False, "revision": False}},
                {"required": ["file"], "properties": {"package": False, "hf": False, "url": False, "revision": False}},
                {"required": ["hf"], "properties": {"package": False, "url": False}},
                {"required": ["url"], "properties": {"package": False, "hf": False, "file": False, "revision": False}},
            ]
        }
    )

    package: str | None = verify(
        None, "An installed Python package that holds the file, in the daemon's environment.", pattern=values.PACKAGE
    )
    hf: str | None = verify(None, "A Hugging Face repository, as owner/repo.", pattern=values.REPO)
    url: WebAddress | None = verify(
        None, "A file of the web, by https; the model's `sha256` says what it must be. No redirect is trusted more."
    )
    file: str | None = verify(
        None,
        "The file: alone an absolute path of this host; with `package` or `hf` a path inside it. "
        "Host and package files are used in place, never copied.",
        min_length=1,
    )
    revision: str | None = verify(
        None, "A commit, tag or branch of the `hf` repository. Default: its main branch.", pattern=values.REVISION
    )


class Adapter(Section):
    """A LoRA adapter, as GGUF, that requests choose with the model `NAME+ADAPTER`; docs/adapters.md."""

    source: Source = reload(
        ..., "Where the file is, as of a model; an `hf` repository with `file`, by the model's `endpoint` and `token`."
    )
    sha256: str | None = reload(
        None, "What the file's content must hash to; another file is never loaded.", pattern=values.SHA256
    )
    scale: float = reload(1.0, "How strongly it changes the model.", ge=-100, le=100)


class Cache(Section):
    """What is kept of finished requests, for those that begin alike."""

    ram: CacheSize = live(DEFAULT_CACHE, "Host memory for finished prefixes, least recently used out first.")
    persist: bool = reload(
        False,
        "Keep them on disk, too, so that a long prompt is warm after a reload or a restart. They are the texts of "
        "requests and answers in another form: who can read the state directory can read them.",
    )
    disk: CacheSize = live(DEFAULT_DISK, "With persist: bytes of files, least recently used out first.")


class Speculative(Section):
    """What may come next is guessed, and guesses are checked together: faster where they hold."""

    lookup: bool = reload(
        False,
        "Guess from what stands in the prompt and the answer already: faster where an answer repeats, as in edits of "
        "a text. Without `deterministic` the logits of a checked guess differ as those of any other batch do.",
    )
    draft: str | None = reload(
        None,
        "Guess with this model of the manifest, a much smaller one with the same tokens, in the same worker. It takes "
        "its memory there, also where it is not loaded itself (`preload: false`). docs/engine.md",
    )


class Sampling(Section):
    """What a request gets where it is silent."""

    temperature: float | None = live(None, "0 is greedy; higher is more varied.", ge=0, le=2)
    top_p: float | None = live(None, "Keep the likeliest tokens that reach this probability together.", gt=0, le=1)
    top_k: int | None = live(None, "Keep this many of the likeliest tokens; 0 is off.", ge=0, le=1_000_000)
    min_p: float | None = live(None, "Drop tokens below this share of the likeliest one's probability.", ge=0, le=1)
    repeat_penalty: float | None = live(None, "Above 1 makes tokens that occurred less likely.", gt=0, le=2)
    presence_penalty: float | None = live(None, "Taken once from each token that occurred.", ge=-2, le=2)
    frequency_penalty: float | None = live(None, "Taken from a token for each time it occurred.", ge=-2, le=2)
    seed: int | None = live(None, "Seed of the random choice.", ge=0, le=2**32 - 2)
    max_tokens: int | None = live(None, "The longest answer, in tokens.", ge=1, le=MAX_INT32)
    stop: list[Stop] = live([], "Texts that end an answer.", max_length=MAX_STOPS)


class Loading(Section):
    """How a model is chosen, loaded and replaced."""

    quant: Quants = verify(
        [AUTO],
        "`hf` only: the quantisation to choose, such as Q4_K_M, or several in order of preference; auto lets "
        "offgridd choose.",
    )
    max_size: Size | None = verify(None, "`hf` and `url`: the most that all files of the model may take together.")
    endpoint: Endpoint = live(HUB, "`hf` only, also of adapters: the hub to ask, or a mirror of it.")
    token: Token | None = Field(
        default=None, description="`hf` only, also of adapters: a token for what is gated or private."
    )
    updates: Literal["manual", "notify", "auto"] = live(
        "notify",
        "`hf` only, also of adapters: whether the hub is asked from time to time for something newer; with auto a "
        "model's is also fetched, verified and loaded, and where it does not become Ready the old one comes back.",
    )
    check_every: Interval = live("24h", "`hf` only, also of adapters: how often, 1s to 168h.")
    preload: bool = live(True, "Load at once, not at the first request.")
    context: int | None = reload(
        None,
        f"Tokens that one request may use. Default: what the model was trained for, at most {DEFAULT_CONTEXT}.",
        ge=1,
        le=MAX_INT32,
    )
    parallel: int = reload(LoadSpec().parallel, "Requests at once; more wait in a queue.", ge=1, le=255)
    kv_cells: int | None = reload(
        None,
        "Tokens that all requests may hold together. Default: context x parallel; with fewer, answers take turns.",
        ge=1,
        le=MAX_INT32,
    )
    threads: int | None = reload(
        None,
        "Processor threads. Default: as many as there are cores, and fewer while other processes want them.",
        ge=1,
        le=1024,
    )
    deterministic: bool = reload(
        False,
        "The same request gives the same bits in any batch, under any load, cached or not, at some cost in speed. "
        "Needs flash attention, f16 keys, q8_0 values and all of context x parallel; refused where it can not be kept.",
    )
    cache: Cache = Field(default_factory=Cache, description="What is kept of finished requests.")
    speculative: Speculative = Field(default_factory=Speculative, description="Guesses at what comes next.")
    cache_type_k: KvType | None = reload(None, "Type of the cache's keys. Default: f16.")
    cache_type_v: KvType | None = reload(
        None, "Type of the cache's values; other than f16, bf16 and f32 it needs flash attention. Default: f16."
    )
    flash_attention: bool = reload(True, "Compute attention in tiles; off only to compare.")
    gpu_layers: int | None = reload(
        None, "Layers on the GPU; 0 is none. Default: as many as there are, where the build has a GPU.", ge=0, le=10_000
    )
    main_gpu: int | None = reload(None, "The GPU that holds what is not split.", ge=0, le=255)
    tensor_split: list[Share] = reload([], "Shares of the model for each GPU, in their order.", max_length=256)
    mmap: bool = reload(True, "Map the file instead of reading it, so that workers share its pages.")
    mlock: bool = reload(False, "Lock the model in memory; refused where the limit on locked memory is too low.")
    chat_template: str | None = reload(
        None, "Jinja text that replaces the chat template in the file.", min_length=1, max_length=MAX_TEMPLATE
    )
    pooling: Literal["auto", "mean", "cls", "last", "rank"] = reload(
        "auto",
        "How one vector, or a score (rank), is made of a text: docs/embeddings.md. Such a model answers no chats. "
        "auto: as the file says, and a file that says nothing is one for text.",
    )
    priority: int = live(
        0,
        "Where memory is short, models of a higher priority are loaded first, and those of a lower one make room.",
        ge=LOWEST_PRIORITY,
        le=HIGHEST_PRIORITY,
    )
    pin: bool = live(False, "Once loaded it never makes room for another model.")
    idle_unload: Interval | None = live(
        None,
        "How long after its last request a model without `preload` and `pin` is unloaded, 1s to 168h. Default: only to "
        "make room.",
    )
    sandbox: Literal["preferred", "required"] = reload(
        "preferred",
        "Whether the model is served also where this kernel can not confine its worker wholly; docs/sandbox.md.",
    )
    drain: Duration = live("30s", "How long a replaced or removed model may go on with its requests, up to 168h.")
    suspend: bool = live(False, "Freeze changes of the model and go on serving it; a crash is still repaired.")
    benchmark: Benchmark | None = Field(
        default=None, description="When the model is measured by itself, and how fast it has to be. Default: never."
    )


class Defaults(Sampling, Loading):
    """Fields that each model has unless it says otherwise."""


class Model(Defaults):
    """One model. Besides these it has all fields of `defaults`, and what stands here wins."""

    source: Source = verify(..., "Where the file is.")
    sha256: str | None = verify(
        None, "What the file's content must hash to; another file is never loaded.", pattern=values.SHA256
    )
    adapters: dict[Name, Adapter] = reload(
        {}, "LoRA adapters by name: loaded beside the model, and chosen by each request.", max_length=31
    )
    aliases: list[Alias] = live([], "Other names that requests may use.", max_length=32)
    dimensions: list[Dimension] = live(
        [],
        "Lengths to which requests may have the vectors of an embedding model cut; for those that were trained for it "
        "(Matryoshka).",
        max_length=32,
    )
    description: str = live("", "Free text for people, shown with the model.", max_length=1024)


def _one_origin(schema: dict[str, Any]) -> None:
    """Models stand here, or `git` says where they are."""
    schema["required"] = ["apiVersion"]
    schema["oneOf"] = [
        {"required": ["models"], "properties": {"git": False}},
        {"required": ["git"], "properties": {"models": False, "defaults": False}},
    ]


class Manifest(Section):
    """What this machine's offgridd should run."""

    model_config = ConfigDict(json_schema_extra=_one_origin)

    apiVersion: Literal["offgridd/v1"] = Field(description="The version of this format.")  # noqa: N815
    server: Server = Field(default_factory=Server, description="How the daemon serves.")
    store: Store = Field(default_factory=Store, description="How files are fetched and kept.")
    defaults: Defaults = Field(
        default_factory=Defaults, description="Fields that each model has unless it says otherwise."
    )
    models: dict[Name, Model] = Field(
        description="The models by name. Write `models: {}` to declare none. Required, unless there is `git`."
    )
    git: Git | None = Field(default=None, description="A Git repository that has `models` and `defaults`, instead.")
