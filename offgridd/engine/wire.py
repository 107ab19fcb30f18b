"""Everything that crosses between the daemon and a worker: one msgpack frame each, over an inherited socketpair.

A frame is its length (4 bytes, little-endian) and a tagged msgpack map. Every `Chat` and `Embed` ends in exactly one
`Finish` or `Refused`, unless the worker dies, which the daemon sees as the end of the stream.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MAX_FRAME = 16 << 20  # bytes; anything longer is a broken peer
_LENGTH = struct.Struct("<I")


class Frame(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    pass


class Placement(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the model and its cache lie in memory; the manifest's fields of these names. None = the engine's choice."""

    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attention: bool = True
    gpu_layers: int | None = None
    main_gpu: int | None = None
    tensor_split: tuple[float, ...] = ()
    mmap: bool = True
    mlock: bool = False


class AdapterFile(msgspec.Struct, frozen=True, array_like=True):
    """A LoRA adapter beside the model, still to be what was verified. `identity`: dev, inode, size, mtime_ns."""

    name: str
    path: str
    identity: tuple[int, int, int, int]
    scale: float = 1.0


class Load(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker, once. Files of one model, in order, each still to be what was verified.

    Of each its path and (dev, inode, size, mtime_ns).
    """

    files: tuple[tuple[str, tuple[int, int, int, int]], ...]
    context: int | None
    parallel: int
    cells: int | None
    threads: int | None  # None = adapted to how busy the machine is
    chat_template: str | None
    file_template: bool  # the header has a template of the right type; the library makes text of any
    deterministic: bool = False
    cache: int = 512 << 20  # bytes of finished prefixes that are kept
    placement: Placement = Placement()
    sandbox: str = "preferred"  # or required: then it does not load where it can not be confined wholly
    beside: bool = False  # other workers serve: it loads with one thread
    key: str = ""  # what the daemon calls this way to load this file
    shelf: str = ""  # the folder where finished prefixes are kept, too, named for what they depend on; empty: nowhere
    disk: int = 0  # bytes of files there
    speculative: bool = False  # what comes next is guessed where that is faster
    pooling: str = ""  # mean | cls | last | rank: it makes vectors or scores; "" = it is a model for text
    adapters: tuple[AdapterFile, ...] = ()
    draft: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()  # files of a model that guesses; empty: none does

    @property
    def paths(self) -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
        """All files that it reads, as in `files`."""
        return (*self.files, *((one.path, one.identity) for one in self.adapters), *self.draft)

    @property
    def gpu(self) -> bool:
        """Whether it may use one."""
        return self.placement.gpu_layers != 0


class CacheLimit(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: finished prefixes may take so many bytes from now on, and so many on disk."""

    bytes: int
    disk: int = 0


class Leave(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: write what is to be kept, and end."""


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    typical_p: float = 1.0
    dry_multiplier: float = 0.0  # 0 = off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1  # tokens; -1 = the context
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


class ToolCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that an answer made. `arguments`: JSON of an object."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    name: str | None = None
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None  # whose result it is
    reasoning: str = ""


class Tool(msgspec.Struct, frozen=True, array_like=True):
    """What a model may call. `text`: JSON as the template is given it; `schema`: of its arguments, JSON."""

    name: str
    text: str
    schema: str
    strict: bool = False

    @classmethod
    def declared(cls, function: Mapping[str, Any], *, strict: bool = False) -> Tool:
        """Of a function as a request has it, with its parameters."""
        text = json.dumps({"type": "function", "function": function}, ensure_ascii=False)
        return cls(function["name"], text, json.dumps(function["parameters"], ensure_ascii=False), strict)


class Constraint(msgspec.Struct, frozen=True, array_like=True):
    """What an answer must match. `kind`: json_object | json_schema | regex | lark | gbnf."""

    kind: str
    text: str = ""


class Chat(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker. `client` is what the queue is fair between; `max_tokens` None = what the context leaves."""

    id: int
    client: str
    messages: tuple[Message, ...]
    sampling: SamplingParams
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None  # None = no; else so many of the likeliest tokens beside the chosen one
    constraint: Constraint | None = None
    clip: bool = False  # max_tokens is the manifest's default: what the context leaves may be less
    probe: bool = False  # the daemon asks by itself: nothing of it is kept or counted, nor begun by what was kept
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"  # auto | required; none is to have no tools
    only: str = ""  # the tool that has to be called
    parallel: bool = True  # several calls in one answer
    template_args: str = "{}"  # JSON: more variables of the template
    adapters: tuple[str, ...] = ()  # those it is answered with, by their names


class Embed(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: a vector of each input, or with a `query` how well each answers it.

    Each is told once in some `Vectors`. `dimensions`: the vectors are cut to so many numbers; None = they are whole.
    """

    id: int
    client: str
    inputs: tuple[str, ...]
    query: str | None = None
    dimensions: int | None = None

    @property
    def probe(self) -> bool:
        return False


Request = Chat | Embed


class Abort(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: nobody reads the answer of `id` any more. It ends with Finish(reason="abort")."""

    id: int


class Bench(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: compute this and say how long it took. Ends in one `Measured` or `Refused`.

    `count` sequences at once, each of tokens that `seed` chooses: `depth` that are not timed, a prompt, and an answer
    of exactly so many tokens. Nothing of it is kept. It gives way to a `Chat`.
    """

    id: int
    prompt_tokens: int
    output_tokens: int
    depth: int = 0
    count: int = 1
    seed: int = 0


class Buffer(msgspec.Struct, frozen=True, array_like=True):
    """Memory that the library says it has reserved, on a device of this name.

    `what`: weights | kv | compute | output.
    """

    device: str
    what: str
    bytes: int


class Built(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the engine once it is loaded: only benchmarks tell of it."""

    ubatch: int = 0  # most rows of one decode
    features: tuple[str, ...] = ()  # of the processor or a device, that the library uses: in its own words
    buffers: tuple[Buffer, ...] = ()


class Score(Frame, frozen=True, tag=True, omit_defaults=True):
    """Daemon -> worker: how likely is this text? Ends in one `Scored` or `Refused`.

    Of the text's tokens the `chunk`-th `n_ctx`, from 0: those behind the first half, each by what is before it. It
    gives way to a `Chat`, and nothing of it is kept.
    """

    id: int
    text: str
    n_ctx: int
    chunk: int = 0


class Loaded(Frame, frozen=True, tag=True, omit_defaults=True):
    """What the worker really runs with."""

    context: int
    parallel: int
    cells: int
    threads: int  # the most, where they adapt
    template: str | None  # why chat templates can not be used
    cache_types: tuple[str, str] = ("f16", "f16")  # of keys and values
    adaptive: bool = False  # whether the number of threads follows the load of the machine
    deterministic: bool = False
    memory: str = ""  # one buffer | a buffer each | whole states | none
    unconfined: tuple[str, ...] = ()  # what it could not give up, in words
    tools: str = ""  # the chat template tells of them itself (native), we do (prompted), or there is none
    reasoning: bool = False  # the template marks it, so that it can be told apart
    built: Built = Built()
    pooling: str = ""  # as in Load
    vector: int = 0  # numbers in one vector
    adapters: tuple[str, ...] = ()  # that requests may name


class LoadFailed(Frame, frozen=True, tag=True, omit_defaults=True):
    reason: str
    message: str


class Admitted(Frame, frozen=True, tag=True, omit_defaults=True):
    """The prompt is tokenised and fits."""

    id: int
    prompt_tokens: int


class Placed(Frame, frozen=True, tag=True, omit_defaults=True):
    """These have waited and are worked on from now on: what ends the worker may be one of them."""

    ids: tuple[int, ...]


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """`piece` are the token's bytes; `top` the likeliest ones as (bytes, log-probability)."""

    piece: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


class CallPart(msgspec.Struct, frozen=True, array_like=True):
    """A piece of the answer's `index`-th tool call: its name, which comes first and once, or text of its arguments."""

    index: int
    name: str
    arguments: str


def joined(parts: Iterable[CallPart]) -> list[tuple[str, str]]:
    """Of each call that the parts make its name, and its arguments as they were written."""
    calls: list[tuple[str, list[str]]] = []
    for part in parts:
        if part.name:
            calls.append((part.name, []))
        calls[part.index][1].append(part.arguments)
    return [(name, "".join(arguments)) for name, arguments in calls]


class Item(msgspec.Struct, frozen=True, array_like=True):
    """What one step made for a request: whole UTF-8 text, which may lag behind."""

    request: int
    text: str
    logprob: TokenLogprob | None = None
    reasoning: str = ""
    calls: tuple[CallPart, ...] = ()


class Tokens(Frame, frozen=True, tag=True, omit_defaults=True):
    """One step's new text."""

    items: tuple[Item, ...]


class Vectors(Frame, frozen=True, tag=True, omit_defaults=True):
    """What one decode made for a request: of the inputs with these indices one vector each, behind each other.

    `data`: little-endian float32.
    """

    id: int
    indices: tuple[int, ...]
    data: bytes


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds of one request, as the worker saw it."""

    queue: float  # from its arrival until it had a slot
    prefill: float  # from there to the first token
    generation: float  # from the first token to the last
    longest_gap: float  # between two tokens


class Finish(Frame, frozen=True, tag=True, omit_defaults=True):
    id: int
    reason: str  # stop | length | abort
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt, that were not computed for this request
    timings: Timings | None = None  # None where no token was made, and of a probe


# Upper bounds of a Spread in seconds; one more count is for what is above the last.
BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Spread(msgspec.Struct, frozen=True, array_like=True):
    """A histogram: how many fell at or below each bound of `BOUNDS` and not below the one before; the sum."""

    counts: tuple[int, ...]
    total: float


class Gauges(msgspec.Struct, frozen=True):
    """What is at the moment."""

    running: int = 0
    waiting: int = 0
    parked: int = 0
    cells_used: int = 0
    cache_bytes: int = 0
    cache_tokens: int = 0
    threads: int = 0
    own_bytes: int = 0  # memory of the worker's own
    own_peak_bytes: int = 0  # the most that it was
    mapped_bytes: int = 0  # pages of the file that are in memory
    shelf_bytes: int = 0  # of finished prefixes on disk


class Stats(Frame, frozen=True, tag=True, omit_defaults=True):
    """Worker -> daemon, once a second while it works and before it rests: what is, and what was since the last."""

    now: Gauges
    steps: int  # decodes with a token for each running sequence
    step_rows: int  # tokens in them
    prompt_tokens: int  # computed
    cached_tokens: int  # not computed, because they were there
    ends: dict[str, int]  # by reason
    spreads: dict[str, Spread]  # queue, prefill, first_token, inter_token; seconds
    shelf_hits: int = 0  # finished prefixes that were brought back from disk
    guessed: int = 0  # tokens that were guessed, to be checked
    held: int = 0  # of those, what was chosen


class Lane(msgspec.Struct, frozen=True, array_like=True):
    """One sequence of a `Bench`, in seconds since that began: when its prompt's turn came, and each token made."""

    prompt: float
    tokens: tuple[float, ...]


class Measured(Frame, frozen=True, tag=True, omit_defaults=True):
    """`why` it was broken off; then there are no lanes. Bytes are the worker's at the end."""

    id: int
    lanes: tuple[Lane, ...] = ()
    threads: int = 0
    own_peak_bytes: int = 0
    mapped_bytes: int = 0
    why: str = ""  # yielded | aborted | out_of_cells


class Scored(Frame, frozen=True, tag=True, omit_defaults=True):
    """`why` it was broken off; then there are no sums.

    Of `tokens` tokens the negative logarithms of their probabilities, summed, and the sum of their squares.
    """

    id: int
    tokens: int = 0
    sum: float = 0.0
    squares: float = 0.0
    chunks: int = 0  # that the text has
    tokens_sha256: str = ""  # of the text's tokens and how many there may be: alike where figures can be compared
    why: str = ""  # yielded | aborted | out_of_cells


class Refused(Frame, frozen=True, tag=True, omit_defaults=True):
    id: int
    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None
    waiting: bool = False  # it had not been placed when its worker ended: another one may answer it


ToWorker = Load | Chat | Embed | Abort | CacheLimit | Bench | Score | Leave
FromWorker = Loaded | LoadFailed | Admitted | Placed | Tokens | Vectors | Finish | Refused | Stats | Measured | Scored

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


class WireError(Exception):
    """A peer that does not keep to the format; the connection is of no more use."""


def encode(frame: Frame) -> bytes:
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise WireError(f"cannot send a frame of {len(body)} bytes: the limit is {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class Splitter:
    """Bytes in, frame bodies out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        bodies: list[bytes] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise WireError(f"cannot read a frame of {length} bytes: the limit is {MAX_FRAME}")
            if len(self._buffer) < _LENGTH.size + length:
                break
            bodies.append(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            del self._buffer[: _LENGTH.size + length]
        return bodies


def to_worker(body: bytes) -> ToWorker:
    try:
        return _to_worker.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WireError(f"cannot read a frame: {error}") from None


def from_worker(body: bytes) -> FromWorker:
    try:
        return _from_worker.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise WireError(f"cannot read a frame: {error}") from None
