"""The only door to llama.cpp: load a file, tokenise, decode, sample. Low-level API; no policy.

Whoever calls must check lengths first: the library asserts, or writes past its buffers, where it should refuse.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp as lib
import numpy as np

from offgridd.engine.port import Aborted, LoadError, OutOfCells, Part
from offgridd.engine.prefix import Piece
from offgridd.engine.rows import RowBatch
from offgridd.engine.sampling import PENALTY_WINDOW, Ids, Row
from offgridd.engine.wire import Load, SamplingParams

CONTROL, LSTRIP, RSTRIP = 1 << 3, 1 << 7, 1 << 8  # llama_token_attr
UBATCH = 512
_ABORT = ctypes.CDLL(None).strlen
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


_WARNING, _CONTINUES = 3, 5  # ggml_log_level
_last_level = 0


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    global _last_level
    _last_level = _last_level if level == _CONTINUES else level
    if _last_level >= _WARNING:
        sys.stderr.write(text.decode("utf-8", "replace"))
        sys.stderr.flush()


class Vocab:
    """Text <-> tokens of one model."""

    def __init__(self, model: object) -> None:
        self.pointer = lib.llama_model_get_vocab(model)
        self.size: int = lib.llama_vocab_n_tokens(self.pointer)
        self.longest = max((len(self.piece(token, special=True)) for token in range(self.size)), default=1) or 1

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; without `special` no text becomes a control token. BOS is never added."""
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        tokens = (lib.llama_token * room)()
        count = lib.llama_tokenize(self.pointer, raw, len(raw), tokens, room, False, special)
        if count < 0:
            raise ValueError("cannot tokenise the text")
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        room = 64
        while True:
            buffer = (ctypes.c_char * room)()
            count = lib.llama_token_to_piece(self.pointer, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self.pointer, token))

    def controls(self) -> tuple[dict[str, int], dict[int, int]]:
        """Texts of the control tokens, and which of them strip the text beside (1 left, 2 right)."""
        texts: dict[str, int] = {}
        strips: dict[int, int] = {}
        for token in range(self.size):
            attr = lib.llama_vocab_get_attr(self.pointer, token)
            if attr & CONTROL:
                texts[self.piece(token, special=True).decode("utf-8", "replace")] = token
                strips[token] = (1 if attr & LSTRIP else 0) | (2 if attr & RSTRIP else 0)
        return texts, strips

    def grammar_tokenizer(self) -> Any:
        from llguidance.llamacpp import lltokenizer_from_vocab

        ends = [token for token in range(self.size) if self.is_end(token)]
        with warnings.catch_warnings():  # it calls functions of the library under their old names
            warnings.simplefilter("ignore", DeprecationWarning)
            return lltokenizer_from_vocab(self.pointer, eos_token=ends or None)

    def names(self) -> dict[str, str]:
        """The variables that chat templates use for special tokens."""
        ids = {"bos_token": lib.llama_vocab_bos(self.pointer), "eos_token": lib.llama_vocab_eos(self.pointer)}
        return {n: self.piece(i, special=True).decode("utf-8", "replace") if i >= 0 else "" for n, i in ids.items()}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a context is made with. `context` None = min(trained, 8192); `cells` None = context x parallel."""

    context: int | None
    threads: int
    parallel: int = 1
    cells: int | None = None


class Llama:
    """One model with one context of `slots` sequences in one unified cache."""

    def __init__(self, path: str, settings: Settings) -> None:
        """Loads it. Raises LoadError; the library's own words are on stderr."""
        lib.llama_log_set(_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self._model:
            raise LoadError("the library could not load the file")
        self.trained: int = lib.llama_model_n_ctx_train(self._model)
        self.context = settings.context or min(self.trained, 8192)
        self.slots, self.cells = settings.parallel, settings.cells or self.context * settings.parallel
        params = lib.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = params.n_ubatch = min(UBATCH, max(64, self.cells))
        params.n_seq_max = self.slots + 1  # the spare one moves prefixes
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = 1
        self.chunk: int = params.n_ubatch
        self._ctx = lib.llama_init_from_model(self._model, params)
        if not self._ctx:
            raise LoadError("the library could not make a context of this size")
        self.vocab = Vocab(self._model)
        self._memory = lib.llama_get_memory(self._ctx)
        self.cuttable = not (lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model))
        self._spare = self.slots
        self._rows = RowBatch(lib.llama_batch_init(self.chunk, 0, 1), self.chunk, self.slots + 1)
        self._flag = ctypes.create_string_buffer(2)
        # libc's strlen on a flag: asked after every graph node, and no Python in it.
        self._abort_cb = ctypes.cast(_ABORT, lib.ggml_abort_callback)
        lib.llama_set_abort_callback(self._ctx, self._abort_cb, ctypes.addressof(self._flag))

    def template(self) -> str | None:
        found = lib.llama_model_chat_template(self._model, None)
        return found.decode("utf-8", "replace") if found else None

    def abort(self) -> None:
        self._flag[0] = b"\1"

    def arm(self) -> None:
        self._flag[0] = b"\0"

    def decode(self, parts: Sequence[Part]) -> None:
        code = lib.llama_decode(self._ctx, self._rows.fill(parts))
        if code == 1:
            raise OutOfCells
        if code == 2:
            raise Aborted
        if code:
            raise RuntimeError(f"llama_decode answered {code}")

    def cut(self, slot: int, length: int) -> None:
        lib.llama_memory_seq_rm(self._memory, slot, length, -1)

    def share(self, giver: int, taker: int, length: int) -> None:
        lib.llama_memory_seq_cp(self._memory, giver, taker, 0, length)

    def save(self, slot: int, start: int, stop: int) -> bytes:
        if not self.cuttable:
            return self._state(slot)
        lib.llama_memory_seq_cp(self._memory, slot, self._spare, start, stop)
        try:
            return self._state(self._spare)
        finally:
            self.cut(self._spare, 0)

    def restore(self, slot: int, pieces: Sequence[Piece]) -> None:
        for state, start, stop in pieces:
            target = self._spare if self.cuttable else slot
            if lib.llama_state_seq_set_data(self._ctx, _bytes_at(state), len(state), target) == 0:
                raise OutOfCells
            if self.cuttable:
                lib.llama_memory_seq_cp(self._memory, self._spare, slot, start, stop)
                self.cut(self._spare, 0)

    def _state(self, slot: int) -> bytes:
        buffer = bytearray(lib.llama_state_seq_get_size(self._ctx, slot))
        view = (ctypes.c_uint8 * len(buffer)).from_buffer(buffer)
        wrote = lib.llama_state_seq_get_data(self._ctx, view, len(buffer), slot)
        return bytes(memoryview(buffer)[:wrote])

    def logits(self, part: int) -> Row:
        pointer = lib.llama_get_logits_ith(self._ctx, self._rows.last[part])
        row: Row = np.ctypeslib.as_array(pointer, (self.vocab.size,))
        return row

    def chain(self, params: SamplingParams) -> NativeChain:
        return NativeChain(self.vocab, params)


def _bytes_at(state: bytes) -> Any:
    """A pointer to the bytes themselves: states are large, and the library only reads them."""
    return ctypes.cast(ctypes.c_char_p(state), ctypes.POINTER(ctypes.c_uint8))


_DRY_BREAKERS = (b"\n", b":", b'"', b"*")


class NativeChain:
    """The library's own samplers for one request."""

    def __init__(self, vocab: Vocab, params: SamplingParams) -> None:
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in self._samplers(vocab, params):
            lib.llama_sampler_chain_add(self._chain, sampler)

    def _samplers(self, vocab: Vocab, params: SamplingParams) -> Iterator[Any]:
        penalties = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
        if penalties != (1.0, 0.0, 0.0):
            yield lib.llama_sampler_init_penalties(vocab.size, PENALTY_WINDOW, *penalties)
        if params.dry_multiplier > 0:
            breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
            dry = (params.dry_multiplier, params.dry_base, params.dry_allowed_length, params.dry_penalty_last_n)
            yield lib.llama_sampler_init_dry(vocab.pointer, *dry, breakers, len(_DRY_BREAKERS))
        if params.temperature == 0:
            yield lib.llama_sampler_init_greedy()
            return
        if params.top_k:
            yield lib.llama_sampler_init_top_k(params.top_k)
        if params.typical_p < 1:
            yield lib.llama_sampler_init_typical(params.typical_p, 1)
        if params.top_p < 1:
            yield lib.llama_sampler_init_top_p(params.top_p, 1)
        if params.min_p > 0:
            yield lib.llama_sampler_init_min_p(params.min_p, 1)
        yield lib.llama_sampler_init_temp(params.temperature)
        yield lib.llama_sampler_init_dist(0xFFFFFFFF if params.seed is None else params.seed)

    def pick(self, ids: Ids, logits: Row) -> int:
        data = np.empty(len(ids), _TOKEN_DATA)
        data["id"], data["logit"], data["p"] = ids, logits, 0
        pointer = data.ctypes.data_as(ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(pointer, len(ids), -1, False)
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        token = int(array.data[array.selected].id)
        lib.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        lib.llama_sampler_free(self._chain)


def open_model(load: Load, threads: int) -> Llama:
    """Raises LoadError."""
    return Llama(load.path, Settings(load.context, threads, load.parallel, load.cells))
