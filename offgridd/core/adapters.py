"""Adapters as models of their own: found, pinned, fetched and verified as any model is, and never loaded themselves.

The model that they are declared beside waits for their files (`core.wearing`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from offgridd.core.desired import AdapterSpec, ModelSpec
from offgridd.core.keys import source_key

PLUS = "+"  # in no name that a manifest may give a model


def adapters_of(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Those of all `specs`, by names that no manifest can have: MODEL+ADAPTER."""
    found = (as_model(spec, one) for spec in specs for one in spec.load.adapters)
    return {spec.name: spec for spec in found}


def loading(spec: ModelSpec) -> object:
    """How it is loaded, and not from where its adapters' files come."""
    load = replace(spec.load, adapters=())
    return load, [(one.name, one.scale, source_key(as_model(spec, one))) for one in spec.load.adapters]


def as_model(spec: ModelSpec, adapter: AdapterSpec) -> ModelSpec:
    """What is newer of one is told and never taken by itself: nobody would have tried it."""
    return ModelSpec(
        f"{spec.name}{PLUS}{adapter.name}", adapter.source, adapter.sha256, preload=False, suspend=spec.suspend,
        updates="notify" if spec.updates == "auto" else spec.updates, check_every=spec.check_every,
        lock=adapter.lock, adapter=True,
    )  # fmt: skip
