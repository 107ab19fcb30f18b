"""The library's own samplers for one request, in a fixed order."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import llama_cpp as lib
import numpy as np

from offgridd.engine.llama.vocab import Vocab
from offgridd.engine.sampling import PENALTY_WINDOW, Ids, Row
from offgridd.engine.wire import SamplingParams

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")


class NativeChain:
    def __init__(self, vocab: Vocab, params: SamplingParams, context: int) -> None:
        """`context`: tokens that DRY looks back on at most, and where it is not said how many."""
        self._context = context
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in self._samplers(vocab, params):
            lib.llama_sampler_chain_add(self._chain, sampler)

    def _samplers(self, vocab: Vocab, params: SamplingParams) -> Iterator[Any]:
        penalties = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
        if penalties != (1.0, 0.0, 0.0):
            yield lib.llama_sampler_init_penalties(vocab.size, PENALTY_WINDOW, *penalties)
        if params.dry_multiplier > 0:
            breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
            asked = params.dry_penalty_last_n
            last = self._context if asked < 0 else min(asked, self._context)  # the library takes -1 for none
            dry = (params.dry_multiplier, params.dry_base, params.dry_allowed_length, last)
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
