"""Writes LoRA adapters, and models into which one was merged: what an adapter has to answer."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from support.tinymodel import F32, STR, U32, Shape, Spec, file_of, model_of, pair, pair_array, tensors_of

if TYPE_CHECKING:
    from pathlib import Path

BASE = Spec(name="base", context_length=512, embedding=64, heads=2, layers=2)
PARTS = ("attn_q", "attn_v", "ffn_down")

Matrix = tuple[Shape, "array[float]"]


@dataclass(frozen=True)
class Lora:
    """`shapes`: by the names of the weights that it changes, (length of a row, rows)."""

    shapes: Mapping[str, Shape]
    seed: int = 1
    rank: int = 4
    alpha: float = 8.0
    size: float = 0.3  # of its values, at most
    invocation: tuple[int, ...] = ()
    architecture: str = "llama"

    def matrices(self) -> dict[str, Matrix]:
        rng = random.Random(self.seed)
        found: dict[str, Matrix] = {}
        for name, (row, rows) in self.shapes.items():
            for part, dims in (("a", (row, self.rank)), ("b", (self.rank, rows))):
                values = array("f", [rng.uniform(-self.size, self.size) for _ in range(dims[0] * dims[1])])
                found[f"{name}.lora_{part}"] = (dims, values)
        return found

    def bytes(self) -> bytes:
        pairs = [
            pair("general.architecture", STR, self.architecture),
            pair("general.type", STR, "adapter"),
            pair("adapter.type", STR, "lora"),
            pair("adapter.lora.alpha", F32, self.alpha),
        ]
        if self.invocation:
            pairs.append(pair_array("adapter.alora.invocation_tokens", U32, self.invocation))
        return file_of(pairs, self.matrices())


def lora_of(spec: Spec, **more: object) -> Lora:
    """An adapter for some weights of each layer."""
    shapes = {name: dims for name, (dims, _) in tensors_of(spec).items() if name.split(".")[-2] in PARTS}
    return replace(Lora(shapes), **more)  # type: ignore[arg-type]


def merged(spec: Spec, loras: Sequence[tuple[Lora, float]]) -> bytes:
    """The model whose weights are changed for good: W + scale * alpha / rank * B A."""
    tensors = tensors_of(spec)
    for lora, scale in loras:
        matrices, factor = lora.matrices(), scale * lora.alpha / lora.rank
        for name, (row, rows) in lora.shapes.items():
            values = tensors[name][1]
            a, b = matrices[f"{name}.lora_a"][1], matrices[f"{name}.lora_b"][1]
            for i in range(rows):
                for j in range(row):
                    values[i * row + j] += factor * sum(b[i * lora.rank + k] * a[k * row + j] for k in range(lora.rank))
    return model_of(spec, tensors)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
