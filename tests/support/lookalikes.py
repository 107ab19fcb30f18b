"""Models of random weights with the vocabulary of another file, to be its drafts."""

from __future__ import annotations

import mmap
import struct
from dataclasses import replace
from pathlib import Path

from support.tinymodel import ARR, FORMATS, STR, Edit, Spec, container, model, pairs_of, vocabulary


def lookalike(path: Path, other: Path, spec: Spec) -> Path:
    """Writes a model that has the tokens of `other`, and knows nothing; returns `path`."""
    theirs = {key: raw for key, raw in _pairs(other).items() if key.startswith("tokenizer.ggml.")}
    size = _count(theirs["tokenizer.ggml.tokens"])
    same = replace(spec, fillers=spec.fillers + size - len(vocabulary(spec)[0]))
    mine = {key for key in pairs_of(same) if key.startswith("tokenizer.")}
    path.write_bytes(model(Edit(drop=tuple(mine), extra=tuple(theirs.values())), same))
    return path


def _pairs(path: Path) -> dict[str, bytes]:
    """What a GGUF says of itself, each pair as it stands there, by its key."""
    found: dict[str, bytes] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        at = len(container([]))
        for _ in range(struct.unpack_from("<Q", raw, 16)[0]):
            began, at = at, _behind(raw, at, STR)
            key = raw[began + 8 : at].decode()
            kind = struct.unpack_from("<i", raw, at)[0]
            at = _behind(raw, at + 4, kind)
            found[key] = raw[began:at]
    return found


def _behind(raw: mmap.mmap, at: int, kind: int) -> int:
    """Where a value of that kind ends which stands there."""
    if kind == STR:
        return at + 8 + int(struct.unpack_from("<Q", raw, at)[0])
    if kind != ARR:
        return at + struct.calcsize(FORMATS[kind])
    inner, count = struct.unpack_from("<iQ", raw, at)
    at += 12
    if inner != STR:
        return at + int(count) * struct.calcsize(FORMATS[inner])
    for _ in range(count):
        at = _behind(raw, at, STR)
    return at


def _count(raw: bytes) -> int:
    """Of the items of a pair with an array."""
    return int(struct.unpack_from("<Q", raw, 8 + struct.unpack_from("<Q", raw)[0] + 8)[0])
