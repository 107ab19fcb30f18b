"""One embedding model or reranker with one context.

What sees only what is before it, and keeps that in a cache, is computed in pieces: then the library's own pooling is
of the last piece alone. Where the last token is wanted, all tokens before it are computed without an output, and it
with one. For a mean each piece gives the vectors of all its tokens, and the library then computes logits, too: so
pieces are short. All others are computed whole, and the library would end the process where a decode has more rows
than n_ubatch, or a text more tokens than the table of positions: `context` is never more than that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from offgridd.core.purpose import FILL, KINDS
from offgridd.engine.embed import SLOTS
from offgridd.engine.llama import log
from offgridd.engine.llama.buffers import features
from offgridd.engine.llama.model import CELL_STEP, Settings, flag_callback, load_model
from offgridd.engine.llama.placement import KV_TYPES, check_locked, kv_types
from offgridd.engine.llama.vocab import Vocab
from offgridd.engine.port import Aborted, LoadError, Part, Passage
from offgridd.engine.rows import RowBatch
from offgridd.engine.vectors import Floats
from offgridd.engine.wire import Built, Load

MEAN_ROWS = 128  # rows that each give a vector, and logits beside it
_POOLING = {name: kind for kind, name in KINDS.items()}
_NONE = 0  # llama_pooling_type: a vector of each token


class Embedder:
    def __init__(self, path: str, settings: Settings, pooling: str, shards: Sequence[str] = ()) -> None:
        """Loads it; `shards` are its further files. Raises LoadError; the library's own words are on stderr."""
        log.redirect()
        lib.llama_backend_init()
        log.forget()
        self.pooling, self._settings = pooling, settings
        self._model = load_model((path, *shards), settings.placement)
        if not self._model:
            raise LoadError("the library could not load the file")
        check_locked(settings.placement)
        if lib.llama_model_has_encoder(self._model):
            raise LoadError("models with an encoder and a decoder make no vectors here; use another file")
        trained: int = lib.llama_model_n_ctx_train(self._model)
        self.context = min(settings.context or 8192, trained)
        self.vocab = Vocab(self._model)
        self.vector: int = 1 if pooling == "rank" else lib.llama_model_n_embd_out(self._model)
        self.slots = 1 if settings.deterministic else SLOTS
        whole_states = lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        if whole_states:  # of which each takes memory
            self.slots = min(self.slots, settings.parallel)
        self._flag = ctypes.create_string_buffer(2)
        self._open(*self._probe())
        self._kept: dict[int, NDArray[Any]] = {}  # by slot, what is known of an input that is not at its end

    def _probe(self) -> tuple[bool, bool]:
        """Whether it has a cache, and a token sees only those before it: the library says that of a context alone."""
        params = self._params(CELL_STEP, CELL_STEP, _NONE)  # a row for each sequence, at least
        ctx = lib.llama_init_from_model(self._model, params)
        if not ctx:
            raise LoadError("the library could not make a context of this model")
        try:
            return bool(lib.llama_get_memory(ctx)), bool(lib.llama_get_causal_attn(ctx))
        finally:
            lib.llama_free(ctx)

    def _params(self, rows: int, cells: int, pooling: int) -> Any:
        settings = self._settings
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = _up(cells, CELL_STEP), rows, rows
        params.n_seq_max, params.kv_unified = self.slots + 1, True
        params.embeddings, params.pooling_type = True, pooling
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = int(settings.placement.flash_attention)
        return params

    def _open(self, memory: bool, causal: bool) -> None:
        """Makes the context. Raises LoadError."""
        self.splits = splits = memory and causal
        settings = self._settings
        log.forget_context()
        # The library tries its graphs with rows for all sequences alike, and the process ends where they are not.
        self._chunk = _up(FILL if splits else max(FILL, self.context), self.slots + 1)
        cells = self.context + FILL if splits else self._chunk
        own_mean = splits and self.pooling == "mean"
        params = self._params(self._chunk, cells, _NONE if own_mean else _POOLING[self.pooling])
        if memory:  # one input a decode is the same bits with any types
            params.type_k, params.type_v = (KV_TYPES[n] for n in kv_types(settings.placement, deterministic=False))
        self._ctx = lib.llama_init_from_model(self._model, params)
        if not self._ctx:
            raise LoadError("the library could not make a context of this size")
        self._memory = lib.llama_get_memory(self._ctx)
        self.cells = params.n_ctx if self._memory else 0
        self._rows = RowBatch(lib.llama_batch_init(self._chunk, 0, 1), self._chunk, self.slots + 1)
        self._abort_cb = flag_callback(self._ctx, self._flag)

    @property
    def built(self) -> Built:
        """In the library's own words."""
        return Built(self._chunk, features(lib.llama_print_system_info().decode("utf-8", "replace")), log.buffers())

    def template(self) -> str | None:
        """How a reranker's file wants a query and a document put together, where it says that."""
        found = lib.llama_model_chat_template(self._model, b"rerank")
        return found.decode("utf-8", "replace") if found else None

    def use_threads(self, count: int) -> None:
        lib.llama_set_n_threads(self._ctx, count, count)

    def abort(self) -> None:
        self._flag[0] = b"\1"

    def arm(self) -> None:
        self._flag[0] = b"\0"

    def encode(self, passages: Sequence[Passage]) -> Sequence[Floats | None]:
        if not self.splits:
            self._decode([Part(p.slot, p.start, p.tokens, True, True) for p in passages])
            found: Sequence[Floats | None] = [self._pooled(p.slot) for p in passages]
        elif self.pooling == "mean":
            found = self._means(passages)
        elif self.pooling == "cls":
            found = self._firsts(passages)
        else:
            found = self._lasts(passages)
        if self._memory:
            for passage in passages:
                if passage.last:
                    self.drop(passage.slot)
        return found

    def drop(self, slot: int) -> None:
        self._kept.pop(slot, None)
        if self._memory:
            lib.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def _lasts(self, passages: Sequence[Passage]) -> Sequence[Floats | None]:
        before = [(p, p.tokens[:-1] if p.last else p.tokens) for p in passages]
        parts = [Part(p.slot, p.start, tokens, False) for p, tokens in before if tokens]
        if parts:
            lib.llama_set_embeddings(self._ctx, False)
            self._decode(parts)
        ends = [Part(p.slot, p.start + len(p.tokens) - 1, p.tokens[-1:], True) for p in passages if p.last]
        if ends:
            lib.llama_set_embeddings(self._ctx, True)
            self._decode(ends)
        return [self._pooled(p.slot) if p.last else None for p in passages]

    def _firsts(self, passages: Sequence[Passage]) -> Sequence[Floats | None]:
        """The first token sees none but itself: nothing else is computed."""
        begin = [p for p in passages if not p.start]
        if begin:
            self._decode([Part(p.slot, 0, p.tokens[:1], True) for p in begin])
            self._kept.update((p.slot, self._pooled(p.slot)) for p in begin)
        return [self._kept.pop(p.slot) if p.last else None for p in passages]

    def _means(self, passages: Sequence[Passage]) -> Sequence[Floats | None]:
        for piece in _pieces(passages, MEAN_ROWS):
            self._decode(piece)
            rows = np.ctypeslib.as_array(lib.llama_get_embeddings(self._ctx), (self._rows.count, self.vector))
            at = 0
            for part in piece:
                total = rows[at : at + len(part.tokens)].sum(axis=0, dtype=np.float64)
                self._kept[part.slot] = self._kept[part.slot] + total if part.start else total
                at += len(part.tokens)
        found: list[Floats | None] = []
        for p in passages:
            mean = self._kept.pop(p.slot) / (p.start + len(p.tokens)) if p.last else None
            found.append(None if mean is None else mean.astype(np.float32))
        return found

    def _decode(self, parts: Sequence[Part]) -> None:
        """Raises Aborted."""
        code = lib.llama_decode(self._ctx, self._rows.fill(parts))
        if code == 2:
            raise Aborted
        if code:
            raise RuntimeError(f"llama_decode answered {code}")

    def _pooled(self, slot: int) -> Floats:
        pointer = lib.llama_get_embeddings_seq(self._ctx, slot)
        if not pointer:
            raise RuntimeError(f"there is no vector of sequence {slot}")
        found: Floats = np.ctypeslib.as_array(pointer, (self.vector,)).copy()
        return found


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def open_encoder(load: Load, threads: int) -> Embedder:
    """Raises LoadError."""
    settings = Settings(load.context, threads, load.parallel, load.cells, load.deterministic, load.placement)
    first, *shards = (path for path, _ in load.files)
    return Embedder(first, settings, load.pooling, shards)


def _pieces(passages: Sequence[Passage], rows: int) -> list[list[Part]]:
    """Their tokens in decodes of at most so many rows, each of which gives a vector."""
    made: list[list[Part]] = [[]]
    room = rows
    for slot, start, tokens, _ in passages:
        at = 0
        while at < len(tokens):
            if not room:
                made.append([])
                room = rows
            count = min(room, len(tokens) - at)
            made[-1].append(Part(slot, start + at, tokens[at : at + count], True, True))
            at, room = at + count, room - count
    return made
