"""Whether a model can keep the promise of `deterministic: true`: the same bits in any batch, on any number of threads.

Some kinds are known not to; whether the kernels for this file's weights do is tried on the model itself, because it
depends on their types and on the processor.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import llama_cpp as lib

from offgridd.engine.port import LoadError, Part
from offgridd.engine.sampling import Row

PROBE = 70  # tokens: from 64 rows on attention has another path
REASON = "DeterminismUnsupported"


class Probed(Protocol):
    slots: int
    context: int

    @property
    def vocab(self) -> Any: ...
    def decode(self, parts: Sequence[Part]) -> None: ...
    def logits(self, part: int) -> Row: ...
    def cut(self, slot: int, length: int) -> None: ...
    def use_threads(self, count: int) -> None: ...
    def wear(self, adapters: int) -> None: ...


def check_kind(model: Any) -> None:
    """Raises LoadError where this kind of model, or its device, can not."""
    if lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model):
        raise LoadError("deterministic: the state of a recurrent or hybrid model can not be cut", REASON)
    if lib.llama_model_n_swa(model) > 0:
        raise LoadError("deterministic: it was not tried with sliding-window attention", REASON)
    architecture = _text(model, "general.architecture")
    if _text(model, f"{architecture}.attention.kv_lora_rank"):
        raise LoadError("deterministic: it was not tried with latent attention (MLA)", REASON)
    if lib.llama_supports_gpu_offload():
        raise LoadError("deterministic: it was not tried on a GPU; hide it with CUDA_VISIBLE_DEVICES=", REASON)


def check_bits(model: Probed, threads: int, sets: Sequence[int] = ()) -> None:
    """Computes one prompt in several ways. Raises LoadError where the logits differ in any bit.

    `sets` of adapters are tried as the model itself is.
    """
    for adapters in (0, *sets):
        model.wear(adapters)
        _check_bits(model, threads)
    model.wear(0)


def _check_bits(model: Probed, threads: int) -> None:
    count = min(PROBE, model.context)
    tokens = [(i * 7919 + 13) % model.vocab.size for i in range(count)]
    ways = [[count], [count - 1, 1], [1, count // 2, count - count // 2 - 1]]
    found = {_last_row(model, tokens, sizes, beside=0) for sizes in ways if min(sizes) > 0}
    for some in {1, max(1, threads - 1), threads}:
        model.use_threads(some)
        found.add(_last_row(model, tokens, [count // 3, count - count // 3 - 1, 1], beside=min(model.slots - 1, 3)))
    model.use_threads(threads)
    if len(found) != 1:
        text = "deterministic: with this file's weights the result depends on what is computed together"
        raise LoadError(f"{text} on this processor; choose another quant", REASON)


def _last_row(model: Probed, tokens: Sequence[int], sizes: Sequence[int], *, beside: int) -> bytes:
    """The logits of the last token, computed in pieces of these sizes, `beside` so many other sequences."""
    at, lengths = 0, dict.fromkeys(range(1, beside + 1), 0)
    for size in (size for size in sizes if size > 0):
        parts = [Part(0, at, tokens[at : at + size], True)]
        # The last piece is one token, and so are the others' parts then: as in a step of running requests.
        more = 1 if size == 1 else 3
        parts += [Part(slot, lengths[slot], tokens[:more], True) for slot in lengths]
        lengths = {slot: length + more for slot, length in lengths.items()}
        model.decode(parts)
        at += size
    row = model.logits(0).tobytes()
    for slot in range(1 + beside):
        model.cut(slot, 0)
    return row


def _text(model: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(256)
    length = lib.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else ""
