"""What a model is for: text, or vectors of texts, or how well texts answer a query. Pure.

The header says it, as llama.cpp reads it: `{arch}.pooling_type` 1 to 4 makes one vector, or a score, of a text. The
manifest's `pooling` wins over it.
"""

from __future__ import annotations

from typing import Final, Literal

from offgridd.core.desired import LoadSpec
from offgridd.core.observed import ModelHeader

Purpose = Literal["text", "embedding", "rerank"]
KINDS: Final = {1: "mean", 2: "cls", 3: "last", 4: "rank"}  # llama_pooling_type
FILL: Final = 384  # rows of a decode, filled with texts: docs/embeddings.md has what others cost
SEQUENCES: Final = 64  # that a context has; one of them is for a text that is half done
_DOES: Final = {
    "text": "it answers chats, at /v1/chat/completions",
    "embedding": "it makes vectors of texts, at /v1/embeddings",
    "rerank": "it says how well documents answer a query, at /v1/rerank",
}


def pooling_of(header: ModelHeader, load: LoadSpec) -> str:
    """mean, cls, last or rank; "" where it is a model for text."""
    if load.pooling != "auto":
        return load.pooling
    return KINDS.get(header.shape.one("pooling_type") or 0, "")


def purpose_of(pooling: str) -> Purpose:
    return "rerank" if pooling == "rank" else "embedding" if pooling else "text"


def is_causal(header: ModelHeader) -> bool:
    """Whether a token sees only those before it, as far as the header tells."""
    return header.shape.one("attention.causal") != 0


def shown(pooling: str) -> str:
    """What such a model does, in words; "" of one for text."""
    return f"{_DOES[purpose_of(pooling)]} (pooling: {pooling})" if pooling else ""


def why_not(pooling: str, wanted: Purpose) -> str:
    """Why a request for something else makes no sense, and what to declare; "" where it does."""
    found = purpose_of(pooling)
    if found == wanted:
        return ""
    declare = {
        "text": "name a model for text" if pooling else "",
        "embedding": "name an embedding model, or declare its `pooling` (mean, cls or last)",
        "rerank": "name a reranker, whose pooling is rank",
    }[wanted]
    return f"{_DOES[found]}; {declare}"
