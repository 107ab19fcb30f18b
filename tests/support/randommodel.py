"""Models of random weights in the sizes and types that models have, for what they take in memory.

Written in pieces: one of 1 GB takes no more than its largest tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from support.tinymodel import F32, STR, U32, Scalar, Shape, Spec, container, pad, pair, pairs_of, tensor, vocabulary

# ggml_type, elements and bytes of a block
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34)}


@dataclass(frozen=True)
class Weights:
    """What a model is like. `window`: gemma2's, whose every other layer looks back on so many tokens."""

    architecture: str = "llama"
    embedding: int = 256
    layers: int = 2
    heads: int = 8
    kv_heads: int = 2
    head: int = 64  # length of a key and of a value
    feed_forward: int = 512
    vocabulary: int = 2048
    context: int = 32768
    window: int | None = None
    weights: str = "f16"
    tied: bool = False


def write_random(path: Path, spec: Weights) -> Path:
    """Write a model that the engine loads; returns `path`."""
    shapes = _shapes(spec)
    records, size = [], 0
    for name, dims in shapes.items():
        records.append(tensor(name, dims, TYPES[_type(name, spec)][0], size))
        size += -(-_bytes(name, dims, spec) // 32) * 32
    rng = np.random.default_rng(7)
    with path.open("wb") as file:
        file.write(container(list(_pairs(spec).values()), records))
        for name, dims in shapes.items():
            file.write(pad(_data(name, dims, spec, rng).tobytes()))
    return path


def _type(name: str, spec: Weights) -> str:
    return "f32" if "norm" in name else spec.weights


def _bytes(name: str, dims: Shape, spec: Weights) -> int:
    _, elements, width = TYPES[_type(name, spec)]
    return math.prod(dims) // elements * width


def _data(name: str, dims: Shape, spec: Weights, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    count, kind = math.prod(dims), _type(name, spec)
    if kind == "f32":
        return np.ones(count, np.float32)
    if kind == "f16":
        return (rng.integers(0, 255, count, np.uint8).astype(np.float16) - np.float16(127)) / np.float16(4096)
    _, elements, width = TYPES[kind]
    blocks = rng.integers(0, 255, (count // elements, width), np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(1 / 4096).tobytes(), np.uint8)  # the scale
    return blocks


def _pairs(spec: Weights) -> dict[str, bytes]:
    base = Spec(special=("<|im_start|>", "<|im_end|>"))
    known = len(vocabulary(base)[0])
    base = Spec(special=("<|im_start|>", "<|im_end|>"), fillers=spec.vocabulary - known)
    pairs = {key: raw for key, raw in pairs_of(base).items() if not key.startswith("llama.")}
    kind = spec.architecture
    values: dict[str, tuple[int, Scalar]] = {
        "context_length": (U32, spec.context),
        "embedding_length": (U32, spec.embedding),
        "block_count": (U32, spec.layers),
        "feed_forward_length": (U32, spec.feed_forward),
        "rope.dimension_count": (U32, spec.head),
        "attention.head_count": (U32, spec.heads),
        "attention.head_count_kv": (U32, spec.kv_heads),
        "attention.key_length": (U32, spec.head),
        "attention.value_length": (U32, spec.head),
        "attention.layer_norm_rms_epsilon": (F32, 1e-5),
    }
    if spec.window is not None:
        values["attention.sliding_window"] = (U32, spec.window)
    pairs["general.architecture"] = pair("general.architecture", STR, kind)
    return pairs | {f"{kind}.{key}": pair(f"{kind}.{key}", *value) for key, value in values.items()}


def _shapes(spec: Weights) -> dict[str, Shape]:
    embd, ff = spec.embedding, spec.feed_forward
    q, kv = spec.heads * spec.head, spec.kv_heads * spec.head
    shapes: dict[str, Shape] = {"token_embd.weight": (embd, spec.vocabulary), "output_norm.weight": (embd,)}
    if not spec.tied and spec.architecture == "llama":
        shapes["output.weight"] = (embd, spec.vocabulary)
    norms = ("attn_norm", "ffn_norm") + (
        ("post_attention_norm", "post_ffw_norm") if spec.architecture == "gemma2" else ()
    )
    for i in range(spec.layers):
        shapes |= {f"blk.{i}.{norm}.weight": (embd,) for norm in norms}
        shapes |= {f"blk.{i}.attn_q.weight": (embd, q), f"blk.{i}.attn_output.weight": (q, embd)}
        shapes |= {f"blk.{i}.attn_{part}.weight": (embd, kv) for part in ("k", "v")}
        shapes |= {f"blk.{i}.ffn_{part}.weight": (embd, ff) for part in ("gate", "up")}
        shapes[f"blk.{i}.ffn_down.weight"] = (ff, embd)
    return shapes
