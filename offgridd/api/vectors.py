"""What embeddings and reranking share: texts that may be asked about, and what a worker makes of them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from offgridd.api.completion import refusal
from offgridd.api.context import Context
from offgridd.api.params import bad
from offgridd.api.passing import frames_of, once_admitted
from offgridd.api.waiting import LOADING_WAIT, check_purpose, worker_for
from offgridd.core.desired import ModelSpec
from offgridd.core.purpose import Purpose
from offgridd.engine import wire

MOST_TEXTS = 2048  # OpenAI's limit


@dataclass(frozen=True, slots=True)
class Made:
    """Little-endian float32 of each text, and the tokens of all."""

    vectors: list[bytes]
    tokens: int


def checked(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Raises RequestRefused naming the one that can not be used."""
    if not values:
        raise bad(name, "it is empty")
    if len(values) > MOST_TEXTS:
        raise bad(name, f"it has {len(values)} texts and the limit is {MOST_TEXTS}; send them in several requests")
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise bad(f"{name}[{index}]", "it must be a string")
        if not value:
            raise bad(f"{name}[{index}]", "it is an empty string")
    return tuple(values)


async def made_of(ctx: Context, spec: ModelSpec, embed: wire.Embed, wanted: Purpose) -> Made:
    """Raises RequestRefused."""
    check_purpose(ctx, spec, wanted)
    worker = await worker_for(ctx, spec)
    frames = await once_admitted(frames_of(ctx, spec, worker, [embed], LOADING_WAIT), [embed])
    vectors, tokens = [b""] * len(embed.inputs), 0
    async with aclosing(frames):
        async for frame in frames:
            match frame:
                case wire.Vectors(_, indices, data):
                    size = len(data) // len(indices)
                    for place, index in enumerate(indices):
                        vectors[index] = data[place * size : (place + 1) * size]
                case wire.Refused():
                    raise refusal(frame)
                case wire.Finish():
                    tokens = frame.prompt_tokens
    return Made(vectors, tokens)


def numbers(vector: bytes) -> list[float]:
    found = array("f", vector)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()
