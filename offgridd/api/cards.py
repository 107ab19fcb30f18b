"""A model as /v1/models has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offgridd.api.context import Context
from offgridd.core.desired import ModelSpec
from offgridd.core.naming import shown_name
from offgridd.core.plan import current_file
from offgridd.core.purpose import pooling_of, purpose_of


def model_cards(ctx: Context, spec: ModelSpec) -> list[dict[str, Any]]:
    """The model itself, and with each of its adapters."""
    return [model_card(ctx, spec), *(model_card(ctx, spec, (one.name,)) for one in spec.load.adapters)]


def model_card(ctx: Context, spec: ModelSpec, adapters: Sequence[str] = ()) -> dict[str, Any]:
    facts = ctx.loop.snapshot.observed.of(spec.name)
    serving, file = facts.serving(), current_file(spec, facts)
    effective = serving.effective if serving else None
    context = effective.context if effective else spec.load.context
    pooling = effective.pooling if effective else pooling_of(file.header, spec.load) if file else None
    card = {"id": shown_name(spec), "object": "model", "created": 0, "owned_by": "offgridd",
            "aliases": list(spec.aliases), "description": spec.description, "context_length": context,
            "deterministic": spec.load.deterministic, "ready": serving is not None,
            "managed": spec.name in ctx.desired.models,
            "kind": None if pooling is None else purpose_of(pooling),
            "tools": (effective and effective.tools) or None,
            "reasoning": effective.reasoning if effective else None}  # fmt: skip
    if adapters:
        card |= {"id": "+".join((shown_name(spec), *adapters)), "parent": shown_name(spec), "aliases": []}
    if pooling:
        card |= {"pooling": pooling, "embedding_length": effective.vector if effective else None,
                 "dimensions": list(spec.dimensions)}  # fmt: skip
    return card
