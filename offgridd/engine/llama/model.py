"""One model with one context: decode, and move sequences' states."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp as lib
import numpy as np

from offgridd.engine.llama import layout, log
from offgridd.engine.llama.adapters import Adapters
from offgridd.engine.llama.buffers import features
from offgridd.engine.llama.determinism import REASON, check_bits, check_kind
from offgridd.engine.llama.placement import KV_TYPES, check_locked, kv_types, model_params
from offgridd.engine.llama.sampler import NativeChain
from offgridd.engine.llama.vocab import Vocab
from offgridd.engine.port import Aborted, LoadError, Memory, OutOfCells, Part
from offgridd.engine.prefix import Piece
from offgridd.engine.rows import RowBatch
from offgridd.engine.sampling import Row, Table
from offgridd.engine.wire import AdapterFile, Built, Load, Placement, SamplingParams

UBATCH = 512
CELL_STEP = 256  # the library rounds a buffer of cells up to a multiple of it
_ABORT = ctypes.CDLL(None).strlen


@dataclass(frozen=True, slots=True)
class Settings:
    """What a context is made with. `context` None = min(trained, 8192); `cells` None = context x parallel."""

    context: int | None
    threads: int
    parallel: int = 1
    cells: int | None = None
    deterministic: bool = False
    placement: Placement = Placement()
    adapters: tuple[AdapterFile, ...] = ()


class Llama:
    """One model with one context of `slots` sequences: in a buffer of cells each, or all in one where that is smaller.

    Each in its own is faster, as attention walks over no other's cells; docs/decisions/0009 has the figures.
    """

    def __init__(self, path: str, settings: Settings, shards: Sequence[str] = ()) -> None:
        """Loads it; `shards` are its further files. Raises LoadError; the library's own words are on stderr."""
        log.redirect()
        lib.llama_backend_init()
        log.forget()
        self._model = load_model((path, *shards), settings.placement)
        if not self._model:
            raise LoadError("the library could not load the file")
        check_locked(settings.placement)
        self.trained: int = lib.llama_model_n_ctx_train(self._model)
        self.context = settings.context or min(self.trained, 8192)
        self.slots, self.cells = settings.parallel, settings.cells or self.context * settings.parallel
        self.cache_types = kv_types(settings.placement, deterministic=settings.deterministic)
        if settings.deterministic:
            check_kind(self._model)
        self._adapters, self._wears = Adapters(self._model, settings.adapters), 0
        self.adapters = self._adapters.known
        self.vocab = Vocab(self._model)
        self._flag = ctypes.create_string_buffer(2)
        # For states on their way, as large as the largest so far: fresh memory for each costs more than the copying.
        self._leaving: Any = (ctypes.c_uint8 * 0)()
        self._arriving: Any = (ctypes.c_uint8 * 0)()
        self._open(self._memory_for(settings), settings)
        self._joins = self.memory is not Memory.WHOLE and self._can_take_apart()
        if self.memory is Memory.APART and not self._joins:
            if settings.deterministic:
                raise LoadError("deterministic: the library keeps this model's cache in a way not known", REASON)
            lib.llama_free(self._ctx)
            self._open(Memory.SHARED, settings)
        self._reserved = log.buffers()  # another model may be loaded beside it, and the log is of the newest
        if settings.deterministic:
            check_bits(self, settings.threads, [1 << bit for bit in range(len(self.adapters))])

    def _memory_for(self, settings: Settings) -> Memory:
        if lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model):
            return Memory.WHOLE
        if lib.llama_model_n_swa(self._model) > 0:
            return Memory.WHOLE  # a saved state holds its last window only: no beginning of it is right
        fits = self.cells >= self.context * self.slots
        if settings.deterministic and not fits:
            raise LoadError("deterministic: it needs context x parallel cells; remove kv_cells", REASON)
        return Memory.APART if fits else Memory.SHARED

    def _open(self, memory: Memory, settings: Settings) -> None:
        """Makes the context. Raises LoadError."""
        self.memory = memory
        log.forget_context()
        params = self._context_params(settings)
        self.chunk: int = params.n_ubatch
        self._ctx = lib.llama_init_from_model(self._model, params)
        if not self._ctx:
            raise LoadError("the library could not make a context of this size and these cache types")
        self._memory = lib.llama_get_memory(self._ctx)
        if not self._memory:
            text = "it is no model for text, and does not say how it makes one vector of a text; declare its pooling"
            raise LoadError(text, "PoolingUnknown")
        self._spare = self.slots
        self._rows = RowBatch(lib.llama_batch_init(self.chunk, 0, 1), self.chunk, self.slots + 1)
        self._abort_cb = flag_callback(self._ctx, self._flag)

    def _can_take_apart(self) -> bool:
        """Tries it on a state of this model."""
        count = min(3, self.context)
        self.decode([Part(0, 0, [0] * count, False)])
        state = self._state(0)
        self.cut(0, 0)
        return count > 1 and layout.understood(state)

    def _context_params(self, settings: Settings) -> Any:
        params = lib.llama_context_default_params()
        apart = self.memory is Memory.APART
        params.n_ctx = -(-self.context // CELL_STEP) * CELL_STEP * self.slots if apart else self.cells
        params.n_batch = params.n_ubatch = min(UBATCH, max(64, params.n_ctx))
        params.n_seq_max = self.slots if apart else self.slots + 1  # the spare one moves prefixes
        params.kv_unified = not apart
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = int(settings.placement.flash_attention)
        params.type_k, params.type_v = (KV_TYPES[name] for name in self.cache_types)
        return params

    @property
    def built(self) -> Built:
        """In the library's own words."""
        return Built(self.chunk, features(lib.llama_print_system_info().decode("utf-8", "replace")), self._reserved)

    def template(self) -> str | None:
        found = lib.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else None

    def use_threads(self, count: int) -> None:
        lib.llama_set_n_threads(self._ctx, count, count)

    def abort(self) -> None:
        self._flag[0] = b"\1"

    def arm(self) -> None:
        self._flag[0] = b"\0"

    def wear(self, adapters: int) -> None:
        if adapters != self._wears:
            self._adapters.put_on(self._ctx, adapters)
            self._wears = adapters

    def decode(self, parts: Sequence[Part]) -> None:
        code = lib.llama_decode(self._ctx, self._rows.fill(parts))
        if code == 1:
            raise OutOfCells
        if code == 2:
            raise Aborted
        if code:
            raise RuntimeError(f"llama_decode answered {code}")

    def cut(self, slot: int, length: int) -> None:
        if not lib.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise RuntimeError(f"cannot cut sequence {slot} to {length}: its state can only be removed whole")

    def share(self, giver: int, taker: int, length: int) -> None:
        if self.memory is Memory.APART:
            self._put(taker, layout.pieces([(self._state(giver), 0, length)]))
        else:
            lib.llama_memory_seq_cp(self._memory, giver, taker, 0, length)

    def save(self, slot: int, start: int, stop: int) -> bytes:
        if self.memory is Memory.WHOLE:
            return bytes(self._state(slot))
        if self._joins:
            return layout.join([(self._state(slot), start, stop)])
        lib.llama_memory_seq_cp(self._memory, slot, self._spare, start, stop)
        try:
            return bytes(self._state(self._spare))
        finally:
            self.cut(self._spare, 0)

    def restore(self, slot: int, pieces: Sequence[Piece]) -> None:
        if self._joins or self.memory is Memory.WHOLE:
            self._put(slot, layout.pieces(pieces) if self._joins else [pieces[0].state])
            return
        for state, start, stop in pieces:
            self._put(self._spare, [state])
            lib.llama_memory_seq_cp(self._memory, self._spare, slot, start, stop)
            self.cut(self._spare, 0)

    def _put(self, slot: int, parts: Sequence[bytes | memoryview]) -> None:
        """A state, in parts. Raises OutOfCells."""
        size, at = sum(map(len, parts)), 0
        if size > len(self._arriving):
            self._arriving = (ctypes.c_uint8 * size)()
        room = memoryview(self._arriving).cast("B")
        for part in parts:
            room[at : at + len(part)] = part
            at += len(part)
        if lib.llama_state_seq_set_data(self._ctx, self._arriving, size, slot) == 0:
            raise OutOfCells

    def _state(self, slot: int) -> memoryview:
        """Good until the next call."""
        size = lib.llama_state_seq_get_size(self._ctx, slot)
        if size > len(self._leaving):
            self._leaving = (ctypes.c_uint8 * size)()
        wrote = lib.llama_state_seq_get_data(self._ctx, self._leaving, size, slot)
        return memoryview(self._leaving).cast("B")[:wrote]

    def logits(self, part: int, back: int = 0) -> Row:
        pointer = lib.llama_get_logits_ith(self._ctx, self._rows.last[part] - back)
        row: Row = np.ctypeslib.as_array(pointer, (self.vocab.size,))
        return row

    def table(self) -> Table:
        rows: int = self._rows.count
        table: Table = np.ctypeslib.as_array(lib.llama_get_logits_ith(self._ctx, 0), (rows, self.vocab.size))
        return table

    def chain(self, params: SamplingParams) -> NativeChain:
        return NativeChain(self.vocab, params, self.context)


def flag_callback(context: Any, flag: Any) -> Any:
    """Decodes of the context end once the flag is set; what is returned has to be kept as long.

    libc's strlen on the flag: asked after every graph node, and no Python in it.
    """
    callback = ctypes.cast(_ABORT, lib.ggml_abort_callback)
    lib.llama_set_abort_callback(context, callback, ctypes.addressof(flag))
    return callback


def load_model(paths: Sequence[str], placement: Placement) -> Any:
    """None, or a null pointer, where the library can not."""
    names = (ctypes.c_char_p * len(paths))(*[path.encode() for path in paths])
    return lib.llama_model_load_from_splits(names, len(paths), model_params(placement))


def open_model(load: Load, threads: int) -> Llama:
    """Raises LoadError."""
    settings = Settings(load.context, threads, load.parallel, load.cells, load.deterministic, load.placement,
                        load.adapters)  # fmt: skip
    first, *shards = (path for path, _ in load.files)
    return Llama(first, settings, shards)
