"""Writes llama models of random weights that are small enough to make in a test and real enough for the engine to load.

Used by tests of everything that needs a model but not its sense. It must stay deterministic: the same description
gives the same bytes.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FORMATS = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B"}
FORMATS |= {U64: "<Q", I64: "<q", F64: "<d"}
GGML_F32 = 0
MASK = 2**64 - 1  # so that -1 can be written as a length

Scalar = int | float | str | bytes
Shape = tuple[int, ...]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def string(text: str | bytes, declared: int | None = None) -> bytes:
    """A GGUF string; `declared` lies about its length."""
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw) if declared is None else declared) + raw


def scalar(kind: int, value: Scalar) -> bytes:
    return string(value) if isinstance(value, str | bytes) else struct.pack(FORMATS[kind], value)


def pair(key: str | bytes, kind: int, value: Scalar) -> bytes:
    return string(key) + struct.pack("<i", kind) + scalar(kind, value)


def pair_array(key: str, kind: int, values: Sequence[Scalar], declared: int | None = None) -> bytes:
    count = len(values) if declared is None else declared
    return string(key) + struct.pack("<iiQ", ARR, kind, count) + b"".join(scalar(kind, v) for v in values)


def tensor(name: str, dims: Shape, kind: int, offset: int, rank: int | None = None) -> bytes:
    """A record of the tensor table; `rank` lies about the number of dimensions."""
    head = string(name) + struct.pack("<I", len(dims) if rank is None else rank)
    return head + b"".join(struct.pack("<Q", d & MASK) for d in dims) + struct.pack("<iQ", kind, offset)


def header(tensors: int, pairs: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors & MASK, pairs & MASK)


def pad(blob: bytes, align: int = 32) -> bytes:
    return blob + b"\0" * (-len(blob) % align)


def container(pairs: Sequence[bytes], tensors: Sequence[bytes] = (), data: bytes = b"") -> bytes:
    """A whole file of ready-made parts."""
    blob = header(len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return pad(blob) + data if tensors else blob


@dataclass(frozen=True)
class Spec:
    """What a model is like. Beside `special` and `fillers` it knows bytes, letters and two words."""

    name: str = "tiny"
    context_length: int = 4096
    chat_template: str | None = CHATML
    seed: int = 7
    layers: int = 1
    embedding: int = 32
    heads: int = 2
    feed_forward: int = 64
    special: tuple[str, ...] = ("<|im_start|>", "<|im_end|>")  # control tokens; the last one ends a turn
    fillers: int = 0  # further tokens, for a vocabulary of any size
    idle: int = 0  # of the layers, the last ones, that take their time and add nothing


@dataclass(frozen=True)
class Edit:
    """How to spoil a model. `pairs` maps keys to the bytes that stand in for them, `shapes` tensors to false shapes."""

    drop: tuple[str, ...] = ()
    pairs: Mapping[str, bytes] = field(default_factory=dict)
    extra: tuple[bytes, ...] = ()
    drop_tensors: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)


DEFAULT = Spec()
CONTROL = Spec(name="tiny-control", context_length=256, chat_template=PLAIN, special=())
NO_EDIT = Edit()


def vocabulary(spec: Spec) -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and token types."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    words = ["\u2581"] + [chr(c) for c in range(97, 123)] + ["\u2581the", "\u2581a"]
    words += [f"\u2581w{i}" for i in range(spec.fillers)]
    scores = [0.0] * len(tokens) + [-float(i + 1) for i in range(len(words))] + [0.0] * len(spec.special)
    kinds = [2, 3, 3] + [6] * 256 + [1] * len(words) + [3] * len(spec.special)
    return [*tokens, *words, *spec.special], scores, kinds


def pairs_of(spec: Spec) -> dict[str, bytes]:
    """The metadata by key."""
    tokens, scores, kinds = vocabulary(spec)
    values: list[tuple[str, int, Scalar]] = [
        ("general.architecture", STR, "llama"),
        ("general.name", STR, spec.name),
        ("general.file_type", U32, 0),
        ("llama.context_length", U32, spec.context_length),
        ("llama.embedding_length", U32, spec.embedding),
        ("llama.block_count", U32, spec.layers),
        ("llama.feed_forward_length", U32, spec.feed_forward),
        ("llama.rope.dimension_count", U32, spec.embedding // spec.heads),
        ("llama.attention.head_count", U32, spec.heads),
        ("llama.attention.head_count_kv", U32, spec.heads),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("tokenizer.ggml.model", STR, "llama"),
    ]
    pairs = {key: pair(key, kind, value) for key, kind, value in values}
    lists: list[tuple[str, int, Sequence[Scalar]]] = [
        ("tokenizer.ggml.tokens", STR, tokens),
        ("tokenizer.ggml.scores", F32, scores),
        ("tokenizer.ggml.token_type", I32, kinds),
    ]
    pairs |= {key: pair_array(key, kind, items) for key, kind, items in lists}
    ids = {"bos": 1, "eos": 2, "unknown": 0} | ({"eot": len(tokens) - 1} if spec.special else {})
    pairs |= {
        f"tokenizer.ggml.{what}_token_id": pair(f"tokenizer.ggml.{what}_token_id", U32, i) for what, i in ids.items()
    }
    if spec.chat_template is not None:
        pairs["tokenizer.chat_template"] = pair("tokenizer.chat_template", STR, spec.chat_template)
    return pairs


def _shapes(spec: Spec) -> dict[str, Shape]:
    embd, ff, vocab = spec.embedding, spec.feed_forward, len(vocabulary(spec)[0])
    shapes: dict[str, Shape] = {
        "token_embd.weight": (embd, vocab),
        "output_norm.weight": (embd,),
        "output.weight": (embd, vocab),
    }
    for i in range(spec.layers):
        shapes[f"blk.{i}.attn_norm.weight"] = (embd,)
        shapes |= {f"blk.{i}.attn_{part}.weight": (embd, embd) for part in ("q", "k", "v", "output")}
        shapes[f"blk.{i}.ffn_norm.weight"] = (embd,)
        shapes |= {f"blk.{i}.ffn_gate.weight": (embd, ff), f"blk.{i}.ffn_down.weight": (ff, embd)}
        shapes[f"blk.{i}.ffn_up.weight"] = (embd, ff)
    return shapes


Tensor = tuple[str, Shape, bytes]


def _tensors(edit: Edit, spec: Spec) -> list[Tensor]:
    """Name, declared shape and data of each."""
    rng = random.Random(spec.seed)
    found = []
    for name, dims in _shapes(spec).items():
        if name in edit.drop_tensors:
            continue
        count = _count(dims)
        if name.startswith("blk.") and int(name.split(".")[1]) >= spec.layers - spec.idle:
            values = [0.0] * count
        else:
            values = [1.0] * count if "norm" in name else [rng.uniform(-0.2, 0.2) for _ in range(count)]
        found.append((name, edit.shapes.get(name, dims), pad(array("f", values).tobytes())))
    return found


def _file(pairs: Sequence[bytes], tensors: Sequence[Tensor]) -> bytes:
    records, size = [], 0
    for name, dims, data in tensors:
        records.append(tensor(name, dims, GGML_F32, size))
        size += len(data)
    return container(pairs, records, b"".join(data for _, _, data in tensors))


def _pairs(edit: Edit, spec: Spec) -> list[bytes]:
    return [edit.pairs.get(key, raw) for key, raw in pairs_of(spec).items() if key not in edit.drop]


def tensors_of(spec: Spec) -> dict[str, tuple[Shape, array[float]]]:
    """Shape and values of each tensor; a shape begins with the length of a row."""
    return {name: (dims, array("f", data[: 4 * _count(dims)])) for name, dims, data in _tensors(NO_EDIT, spec)}


def model_of(spec: Spec, tensors: Mapping[str, tuple[Shape, array[float]]]) -> bytes:
    """The bytes of a model of `spec` with other values."""
    return _file(
        _pairs(NO_EDIT, spec), [(name, dims, pad(values.tobytes())) for name, (dims, values) in tensors.items()]
    )


def file_of(pairs: Sequence[bytes], tensors: Mapping[str, tuple[Shape, array[float]]]) -> bytes:
    """The bytes of any GGUF."""
    return _file(pairs, [(name, dims, pad(values.tobytes())) for name, (dims, values) in tensors.items()])


def _count(dims: Shape) -> int:
    return dims[0] * (dims[1] if len(dims) > 1 else 1)


def model(edit: Edit = NO_EDIT, spec: Spec = CONTROL) -> bytes:
    """The bytes of a model, spoiled by `edit`."""
    return _file([*_pairs(edit, spec), *edit.extra], _tensors(edit, spec))


def split_pairs(number: int, count: int, tensors: int) -> list[bytes]:
    """What a shard says of its place, `number` from 0."""
    whole = [("split.no", U16, number), ("split.count", U16, count), ("split.tensors.count", I32, tensors)]
    return [pair(key, kind, value) for key, kind, value in whole]


def model_shards(count: int, spec: Spec = CONTROL) -> list[bytes]:
    """The bytes of the files of a model that was split."""
    tensors = _tensors(NO_EDIT, spec)
    each = -(-len(tensors) // count)
    return [
        _file(
            [*(_pairs(NO_EDIT, spec) if number == 0 else []), *split_pairs(number, count, len(tensors))],
            tensors[number * each : (number + 1) * each],
        )
        for number in range(count)
    ]


def shard_name(stem: str, number: int, count: int) -> str:
    """As every tool names them, `number` from 0."""
    return f"{stem}-{number + 1:05}-of-{count:05}.gguf"


def write_model(path: Path, spec: Spec = DEFAULT) -> Path:
    """Write a model that the engine loads; returns `path`."""
    path.write_bytes(model(spec=spec))
    return path
