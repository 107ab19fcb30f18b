"""Bytes of what a model keeps of a token, and of a sequence. Pure; `fit` says where the formulas are from."""

from __future__ import annotations

from offgridd.core.architectures import ATTENTION, ENCODERS, FOREIGN, HYBRID, LATENT, RECURRENT
from offgridd.core.observed import ModelHeader

# Elements and bytes of a block of each type that a cache may have.
_BLOCKS = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q5_1": (32, 24), "q5_0": (32, 22),
    "q4_1": (32, 20), "q4_0": (32, 18), "iq4_nl": (32, 18),
}  # fmt: skip


def token_bytes(header: ModelHeader, kinds: tuple[str, str]) -> int | None:
    """Bytes of one token's keys and values in all layers. Each layer is kept in full, also one with a window."""
    kind, shape = header.architecture, header.shape
    if kind in RECURRENT | ENCODERS:
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


def state_bytes(header: ModelHeader) -> int | None:
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
