"""Picks out of a header's facts what decides how much memory the model takes; used by `check`.

It must never refuse a file: what has another form than it should is named as odd, and nothing is concluded from it.
"""

from __future__ import annotations

from offgridd.core.shape import Matrix, Shape
from offgridd.effects.gguf.types import Array, Facts, Value

# Ends of keys, after the name of the architecture. Those of a layer each may be arrays.
LAYERED = ("attention.head_count", "attention.head_count_kv", "feed_forward_length", "expert_feed_forward_length",
           "expert_used_count")  # fmt: skip
SINGLE = (
    "attention.key_length", "attention.value_length", "attention.key_length_mla", "attention.value_length_mla",
    "attention.key_length_swa", "attention.value_length_swa", "attention.sliding_window", "attention.shared_kv_layers",
    "attention.indexer.head_count", "attention.indexer.key_length", "shortconv.l_cache", "ssm.conv_kernel",
    "ssm.inner_size", "ssm.state_size", "ssm.group_count", "pooling_type", "attention.causal",
)  # fmt: skip
LAYERED_ENDS = tuple(f".{key}" for key in LAYERED)
ENDS = LAYERED_ENDS + tuple(f".{key}" for key in SINGLE)
MERGES = "tokenizer.ggml.merges"
_MOST = (1 << 31) - 1  # as the engine has them


def shape_of(facts: Facts, architecture: str) -> Shape:
    numbers: dict[str, int | tuple[int, ...]] = {}
    odd = []
    for key in LAYERED + SINGLE:
        value = facts.values.get(f"{architecture}.{key}")
        found = None if value is None else _number(value)
        if found is not None:
            numbers[key] = found
        elif value is not None:
            odd.append(key)
    merges = facts.values.get(MERGES)
    kinds = facts.multiplied.keys() | facts.embedding.keys()
    matrices = {kind: Matrix(facts.multiplied.get(kind, 0), facts.embedding.get(kind, 0)) for kind in kinds}
    count = merges.count if isinstance(merges, Array) else 0
    return Shape(numbers, tuple(odd), count, matrices, facts.own_output, facts.classifier)


def _number(value: Value) -> int | tuple[int, ...] | None:
    """None where it is no number that can be one of these."""
    if isinstance(value, Array):
        return value.items if value.items and all(0 <= one <= _MOST for one in value.items) else None
    return int(value) if isinstance(value, int) and 0 <= value <= _MOST else None
