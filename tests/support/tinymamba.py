"""Tiny models of random weights whose memory is not that of llama: recurrent, or with a sliding window.

Deterministic as those of `tinymodel`. Their answers depend on all that is in their memory.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Mapping
from pathlib import Path

from support import tinymodel
from support.tinymodel import F32, GGML_F32, STR, U32, Scalar, Shape, Spec, container, pad, pair, tensor, vocabulary

EMBEDDING, FEED_FORWARD, LAYERS, CONTEXT = 32, 64, 2, 4096
INNER, STATE, KERNEL, RANK = 2 * EMBEDDING, 8, 4, 4
HEADS, WINDOW = 2, 96
SPEC = Spec(special=())


def write_mamba(path: Path) -> Path:
    """Write a recurrent model that the engine loads; returns `path`."""
    keys: dict[str, tuple[int, Scalar]] = {
        "feed_forward_length": (U32, 0),
        "attention.head_count": (U32, 0),
        "ssm.conv_kernel": (U32, KERNEL),
        "ssm.inner_size": (U32, INNER),
        "ssm.state_size": (U32, STATE),
        "ssm.time_step_rank": (U32, RANK),
    }
    layer: dict[str, Shape] = {
        "attn_norm.weight": (EMBEDDING,),
        "ssm_in.weight": (EMBEDDING, 2 * INNER),
        "ssm_conv1d.weight": (KERNEL, INNER),
        "ssm_conv1d.bias": (INNER,),
        "ssm_x.weight": (INNER, RANK + 2 * STATE),
        "ssm_dt.weight": (RANK, INNER),
        "ssm_dt.bias": (INNER,),
        "ssm_a": (STATE, INNER),
        "ssm_d": (INNER,),
        "ssm_out.weight": (INNER, EMBEDDING),
    }
    return _write(path, "mamba", keys, layer)


def write_windowed(path: Path) -> Path:
    """Write a model whose every other layer looks back on `WINDOW` tokens alone; returns `path`."""
    keys: dict[str, tuple[int, Scalar]] = {
        "feed_forward_length": (U32, FEED_FORWARD),
        "attention.head_count": (U32, HEADS),
        "attention.head_count_kv": (U32, HEADS),
        "attention.key_length": (U32, EMBEDDING // HEADS),
        "attention.value_length": (U32, EMBEDDING // HEADS),
        "attention.sliding_window": (U32, WINDOW),
    }
    norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    layer: dict[str, Shape] = {f"{norm}.weight": (EMBEDDING,) for norm in norms}
    layer |= {f"attn_{part}.weight": (EMBEDDING, EMBEDDING) for part in ("q", "k", "v", "output")}
    layer |= {f"ffn_{part}.weight": (EMBEDDING, FEED_FORWARD) for part in ("gate", "up")}
    layer["ffn_down.weight"] = (FEED_FORWARD, EMBEDDING)
    return _write(path, "gemma2", keys, layer)


def _write(path: Path, kind: str, keys: Mapping[str, tuple[int, Scalar]], layer: Mapping[str, Shape]) -> Path:
    pairs = {key: raw for key, raw in tinymodel.pairs_of(SPEC).items() if not key.startswith("llama.")}
    pairs["general.architecture"] = pair("general.architecture", STR, kind)
    all_keys: dict[str, tuple[int, Scalar]] = {
        "context_length": (U32, CONTEXT),
        "embedding_length": (U32, EMBEDDING),
        "block_count": (U32, LAYERS),
        "attention.layer_norm_rms_epsilon": (F32, 1e-5),
        **keys,
    }
    pairs |= {f"{kind}.{key}": pair(f"{kind}.{key}", *value) for key, value in all_keys.items()}
    words = len(vocabulary(SPEC)[0])
    shapes: dict[str, Shape] = {"token_embd.weight": (EMBEDDING, words), "output_norm.weight": (EMBEDDING,)}
    shapes |= {} if kind == "gemma2" else {"output.weight": (EMBEDDING, words)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    rng = random.Random(SPEC.seed)
    records, data, size = [], [], 0
    for name, dims in shapes.items():
        records.append(tensor(name, dims, GGML_F32, size))
        data.append(pad(array("f", [_value(name, i, rng) for i in range(math.prod(dims))]).tobytes()))
        size += len(data[-1])
    path.write_bytes(container(list(pairs.values()), records, b"".join(data)))
    return path


def _value(name: str, index: int, rng: random.Random) -> float:
    if "norm" in name or name.endswith("ssm_d"):
        return 1.0
    if name.endswith("ssm_a"):
        return -1.0 - index % STATE
    if name.endswith("ssm_dt.bias"):
        return rng.uniform(-6, -1)  # small steps: what was long ago still counts
    return rng.uniform(-0.5, 0.5)
