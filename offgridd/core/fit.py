"""How much memory a model takes, from what its header says and how it is to be loaded. Pure.

The formulas follow the llama.cpp of llama-cpp-python 0.3.36 (llama-kv-cache.cpp, llama-memory-recurrent.cpp and
llama-hparams.cpp), the figures in it were measured: docs/fit.md has both. An architecture that none of them was
read for is unknown, never guessed at.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from offgridd.core.architectures import ATTENTION, FOREIGN, HYBRID, LATENT, RECURRENT, window
from offgridd.core.desired import DEFAULT_CACHE, DEFAULT_CONTEXT, LoadSpec, MemorySpec
from offgridd.core.kernels import NAMES, fast_types
from offgridd.core.observed import ModelHeader
from offgridd.core.shape import Shape
from offgridd.core.sizes import RESERVE

Fits = Literal["yes", "no", "unknown"]
UBATCH, CELL_STEP = 512, 256  # rows of a decode, and what buffers of cells are rounded up to: as the engine has them
PROCESS = 30 << 20  # bytes of a worker that has loaded nothing: Python, numpy, the library
TOKEN = 200  # bytes that the library and we keep of each token, and of each merge
CELL = 64  # bytes that the library keeps of each cell besides its keys and values

# Elements and bytes of a block of each type that a cache may have.
_BLOCKS = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22),
    "q4_1": (32, 20), "q4_0": (32, 18), "iq4_nl": (32, 18),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of one worker. `weights` are pages of the file where `mapped`: once a file, however many workers use it."""

    weights: int
    kv: int  # keys, values and recurrent states, all of it from the start
    compute: int  # what a full decode touches
    base: int  # the process, the vocabulary, the library's lists of cells
    repacked: int = 0  # weights that are there a second time, laid out for this processor
    unread: int = 0  # pages of the file that are read no more once they were laid out so; the kernel may drop them
    moving: int = 0  # room for the state of one sequence on its way out and one on its way in
    cache: int = 0  # finished prefixes, at most
    spilled: int = 0  # sequences that have no cells, at most
    mapped: bool = True

    @property
    def total(self) -> int:
        """What it takes at work, with nothing kept and nothing moved out."""
        return self.weights + self.repacked + self.kv + self.compute + self.base

    @property
    def own(self) -> int:
        """The part of `total` that is the worker's alone."""
        return self.total - (self.weights if self.mapped else 0)

    @property
    def charge(self) -> int:
        """What a memory limit must have room for: also what it may keep, move and spill."""
        needed = self.weights - self.unread + self.repacked + self.kv + self.compute + self.moving
        return needed + self.cache + self.spilled + RESERVE


@dataclass(frozen=True, slots=True)
class Limits:
    """`ram`: bytes that models may take, None = not known; `gpu`: bytes of each GPU that the manifest names."""

    ram: int | None
    gpu: tuple[tuple[int, int], ...] = ()

    @property
    def all(self) -> int | None:
        """Bytes of both together."""
        return None if self.ram is None else self.ram + sum(size for _, size in self.gpu)


@dataclass(frozen=True, slots=True)
class _Cells:
    """`buffer`: cells that a sequence can see; `total`: of all buffers; `sequences`: ids that the library keeps."""

    context: int
    buffer: int
    total: int
    sequences: int


def estimate(
    header: ModelHeader, load: LoadSpec, features: Set[str] = frozenset(), cache: int = DEFAULT_CACHE
) -> Estimate | None:
    """None where the architecture's memory is not understood, or the header lacks what is needed.

    `features`: what the processor says of itself in /proc/cpuinfo; `cache`: bytes of finished prefixes.
    """
    cells = _cells(header, load)
    kinds = _cache_types(load)
    token, states = (_token_bytes(header, kinds), _state_bytes(header)) if cells else (None, None)
    if cells is None or token is None or states is None:
        return None
    mapped = load.placement.mmap
    sequence = cells.context * token + states
    idle = cache == 0 and load.parallel == 1
    unread, again = _repacked(header.shape, features) if mapped else (0, 0)
    return Estimate(
        weights=header.tensor_bytes,
        kv=cells.total * token + cells.sequences * states,
        compute=_compute(header, load, cells),
        base=PROCESS + TOKEN * (header.vocab_size + header.shape.merges) + CELL * cells.total,
        repacked=unread + again,
        unread=unread,
        moving=0 if idle else 2 * sequence,
        cache=cache,
        spilled=max(0, cells.context * load.parallel - (load.kv_cells or cells.context * load.parallel)) * token,
        mapped=mapped,
    )


def fits(found: Estimate | None, load: LoadSpec, limits: Limits) -> Fits:
    """Whether it fits `limits`, with nothing else beside it. Where a GPU takes a part, only the sum is known."""
    if found is None or limits.ram is None:
        return "unknown"
    if found.charge <= limits.ram:
        return "yes"
    placed = load.placement
    on_gpu = placed.gpu_layers != 0 and bool(
        placed.gpu_layers or placed.main_gpu is not None or placed.tensor_split or limits.gpu
    )
    if on_gpu and (not limits.gpu or found.charge <= (limits.all or 0)):
        return "unknown"
    return "no"


def declared(spec: MemorySpec, total: int | None) -> Limits | None:
    """What the manifest lets models take of `total` bytes; None where it says nothing of the RAM."""
    if spec.ram is not None:
        return Limits(spec.ram if total is None else min(spec.ram, total), spec.gpu)
    if spec.share is not None:
        return Limits(None if total is None else total * spec.share // 100, spec.gpu)
    return None


def limits(spec: MemorySpec, total: int | None) -> Limits:
    """The same, and all there is where nothing is declared."""
    return declared(spec, total) or Limits(total, spec.gpu)


def _cells(header: ModelHeader, load: LoadSpec) -> _Cells | None:
    """As `engine.llama.model` makes its context: a buffer a sequence, or one for all and the spare one."""
    context = load.context or min(header.context_length, DEFAULT_CONTEXT)
    if context <= 0:
        return None
    whole = header.architecture in RECURRENT | HYBRID or window(header) > 0
    cells = load.kv_cells or context * load.parallel
    if not whole and cells >= context * load.parallel:
        return _Cells(context, _padded(context), _padded(context) * load.parallel, load.parallel)
    return _Cells(context, _padded(cells), _padded(cells), load.parallel + 1)


def _cache_types(load: LoadSpec) -> tuple[str, str]:
    """Of keys and values; the same rule as `engine.llama.placement.kv_types`."""
    placed = load.placement
    return placed.cache_type_k or "f16", placed.cache_type_v or ("q8_0" if load.deterministic else "f16")


def _token_bytes(header: ModelHeader, kinds: tuple[str, str]) -> int | None:
    """Bytes of one token's keys and values in all layers. Each layer is kept in full, also one with a window."""
    kind, shape = header.architecture, header.shape
    if kind in RECURRENT:
        return 0
    if kind not in ATTENTION | LATENT | HYBRID or any(key in shape.numbers for key in FOREIGN):
        return None
    heads = _kv_heads(header)
    default = header.embedding_length // header.head_count if header.head_count else 0
    key = shape.one("attention.key_length") or default
    value = shape.one("attention.value_length") or default
    latent = shape.one("attention.key_length_mla") is not None
    if heads is None or not key or not value or (latent and kind not in LATENT):
        return None
    return sum(_row(kinds[0], count * key) + (0 if latent else _row(kinds[1], count * value)) for count in heads)


def _kv_heads(header: ModelHeader) -> tuple[int, ...] | None:
    shape, count = header.shape, header.block_count
    if any(key in shape.odd for key in ("attention.head_count", "attention.head_count_kv")) or not count:
        return None
    named = "attention.head_count_kv" in shape.numbers
    if not named and header.architecture in HYBRID:
        return None
    return shape.layers("attention.head_count_kv" if named else "attention.head_count", count)


def _row(kind: str, elements: int) -> int:
    block, width = _BLOCKS[kind]
    return -(-elements // block) * width


def _state_bytes(header: ModelHeader) -> int | None:
    """Bytes of one sequence's recurrent states, in f32: `n_embd_r` and `n_embd_s` of llama-hparams.cpp, a layer."""
    kind, shape = header.architecture, header.shape
    if kind not in RECURRENT | HYBRID:
        return 0
    layers = header.block_count if kind in RECURRENT else (_kv_heads(header) or ()).count(0)
    short = shape.one("shortconv.l_cache")
    if short is not None:
        return max(0, short - 1) * header.embedding_length * 4 * layers
    inner, state, kernel = (shape.one(f"ssm.{key}") for key in ("inner_size", "state_size", "conv_kernel"))
    if inner is None or state is None or kernel is None:
        return None
    groups = shape.one("ssm.group_count") or 0
    return (max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner) * 4 * layers


def _compute(header: ModelHeader, load: LoadSpec, cells: _Cells) -> int:
    """What a decode of a full ubatch touches of the library's buffers: less than they are large.

    Of one layer the widest moment lives (f32), the mask of all cells that are seen (f16, and another one for
    layers with a window), the input of a product once more in the weights' type, and rows of logits for each sequence.
    """
    shape, embedding = header.shape, header.embedding_length
    rows = min(UBATCH, max(64, cells.total))
    key = shape.one("attention.key_length") or (embedding // header.head_count if header.head_count else 0)
    queries = header.head_count * key
    hidden = shape.one("feed_forward_length") or 0
    experts = (shape.one("expert_used_count") or 0) * (shape.one("expert_feed_forward_length") or hidden)
    inner = 5 * (shape.one("ssm.inner_size") or 0)
    widest = max(
        2 * embedding + 3 * hidden, 4 * embedding + 3 * experts, 2 * embedding + 3 * queries, 2 * embedding + inner
    )
    masks = 0 if header.architecture in RECURRENT else 2 if window(header) else 1
    cell = 2 if load.placement.flash_attention else 4
    scores = 0 if load.placement.flash_attention or not masks else rows * cells.buffer * header.head_count * 4
    logits = (load.parallel + 1) * header.vocab_size * 8
    product = rows * max(hidden, embedding, queries) * 2
    return rows * widest * 4 + masks * rows * cells.buffer * cell + scores + product + logits


def _repacked(shape: Shape, features: Set[str]) -> tuple[int, int]:
    """Bytes of the weights that are laid out anew: those that are only multiplied with, and a tied embedding."""
    fast = fast_types(features)
    found = [matrix for kind, matrix in shape.matrices.items() if NAMES.get(kind) in fast]
    tied = 0 if shape.own_output else sum(matrix.embedding for matrix in found)
    return sum(matrix.multiplied for matrix in found), tied


def _padded(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
