"""How much memory a model takes, from what its header says and how it is to be loaded. Pure.

The formulas follow the llama.cpp of llama-cpp-python 0.3.36 (llama-kv-cache.cpp, llama-memory-recurrent.cpp and
llama-hparams.cpp), the figures in it were measured: docs/fit.md has both. An architecture that none of them was
read for is unknown, never guessed at.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from offgridd.core.architectures import ENCODERS, HYBRID, RECURRENT, window
from offgridd.core.desired import DEFAULT_CACHE, DEFAULT_CONTEXT, LoadSpec, MemorySpec
from offgridd.core.kernels import NAMES, fast_types
from offgridd.core.kvbytes import state_bytes, token_bytes
from offgridd.core.observed import ModelHeader
from offgridd.core.purpose import FILL, SEQUENCES, is_causal, pooling_of
from offgridd.core.shape import Shape
from offgridd.core.sizes import RESERVE

Fits = Literal["yes", "no", "unknown"]
UBATCH, CELL_STEP = 512, 256  # rows of a decode, and what buffers of cells are rounded up to: as the engine has them
PROCESS = 30 << 20  # bytes of a worker that has loaded nothing: Python, numpy, the library
TOKEN = 200  # bytes that the library and we keep of each token, and of each merge
CELL = 64  # bytes that the library keeps of each cell besides its keys and values


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
    token, states = (token_bytes(header, kinds), state_bytes(header)) if cells else (None, None)
    if cells is None or token is None or states is None:
        return None
    mapped, kept = load.placement.mmap, not pooling_of(header, load)  # else nothing outlives its request
    sequence = cells.context * token + states
    idle = not kept or (cache == 0 and load.parallel == 1)
    unread, again = _repacked(header.shape, features) if mapped else (0, 0)
    return Estimate(
        weights=header.tensor_bytes,
        kv=cells.total * token + cells.sequences * states,
        compute=_compute(header, load, cells),
        base=PROCESS + TOKEN * (header.vocab_size + header.shape.merges) + CELL * cells.total,
        repacked=unread + again,
        unread=unread,
        moving=0 if idle else 2 * sequence,
        cache=cache if kept else 0,
        spilled=_spilled(load, cells.context) * token if kept else 0,
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


def _spilled(load: LoadSpec, context: int) -> int:
    """Tokens of all sequences that have no cells."""
    wanted = context * load.parallel
    return max(0, wanted - (load.kv_cells or wanted))


def _cells(header: ModelHeader, load: LoadSpec) -> _Cells | None:
    """As `engine.llama.model` makes its context: a buffer a sequence, or one for all and the spare one."""
    context = load.context or min(header.context_length, DEFAULT_CONTEXT)
    if context <= 0:
        return None
    if pooling_of(header, load):
        context = min(context, header.context_length)
        total = _padded(context + FILL if _in_pieces(header) else max(context, FILL))
        return _Cells(context, total, total, SEQUENCES)
    whole = header.architecture in RECURRENT | HYBRID or window(header) > 0
    cells = load.kv_cells or context * load.parallel
    if not whole and cells >= context * load.parallel:
        return _Cells(context, _padded(context), _padded(context) * load.parallel, load.parallel)
    return _Cells(context, _padded(cells), _padded(cells), load.parallel + 1)


def _cache_types(load: LoadSpec) -> tuple[str, str]:
    """Of keys and values; the same rule as `engine.llama.placement.kv_types`."""
    placed = load.placement
    return placed.cache_type_k or "f16", placed.cache_type_v or ("q8_0" if load.deterministic else "f16")


def _compute(header: ModelHeader, load: LoadSpec, cells: _Cells) -> int:
    """What a decode of a full ubatch touches of the library's buffers: less than they are large.

    Of one layer the widest moment lives (f32), the mask of all cells that are seen (f16, and another one for
    layers with a window), the input of a product once more in the weights' type, and rows of logits for each sequence.
    """
    shape, embedding = header.shape, header.embedding_length
    pooling = pooling_of(header, load)
    whole = pooling and not _in_pieces(header)
    rows = max(FILL, cells.context) if whole else FILL if pooling else min(UBATCH, max(64, cells.total))
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
    if pooling:  # the library has room for those of each row, also of a model that makes none
        logits = (rows if whole else SEQUENCES if pooling != "mean" else 2 * SEQUENCES) * header.vocab_size
        logits *= 4 if header.architecture in ENCODERS else 8
    product = rows * max(hidden, embedding, queries) * 2
    return rows * widest * 4 + masks * rows * cells.buffer * cell + scores + product + logits


def _in_pieces(header: ModelHeader) -> bool:
    """Whether an embedding model computes a long text so: `engine.llama.embedder`."""
    return header.architecture not in ENCODERS and is_causal(header)


def _repacked(shape: Shape, features: Set[str]) -> tuple[int, int]:
    """Bytes of the weights that are laid out anew: those that are only multiplied with, and a tied embedding."""
    fast = fast_types(features)
    found = [matrix for kind, matrix in shape.matrices.items() if NAMES.get(kind) in fast]
    tied = 0 if shape.own_output else sum(matrix.embedding for matrix in found)
    return sum(matrix.multiplied for matrix in found), tied


def _padded(cells: int) -> int:
    return -(-cells // CELL_STEP) * CELL_STEP
