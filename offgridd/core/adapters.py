"""Adapters as models of their own: found, pinned, fetched and verified as any model is, and never loaded themselves.

The model that they are declared beside waits for their files (`core.wearing`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from offgridd.core.desired import AdapterSpec, LoadSpec, ModelSpec
from offgridd.core.keys import source_key

PLUS = "+"  # in no name that a manifest may give a model


def adapters_of(specs: Iterable[ModelSpec]) -> dict[str, ModelSpec]:
    """Those of all `specs`, by names that no manifest can have: MODEL+ADAPTER."""
    found = (as_model(spec, one) for spec in specs for one in spec.load.adapters)
    return {spec.name: spec for spec in found}


def with_adapters_of(models: Mapping[str, ModelSpec]) -> dict[str, ModelSpec]:
    """The models and their adapters, by name."""
    return {**models, **adapters_of(models.values())}


def beside(model: str, load: LoadSpec) -> list[str]:
    """The models whose files its worker reads, too."""
    adapters = [_as_model(model, one).name for one in load.adapters]
    return [*adapters, *([load.draft] if load.draft is not None else [])]


def loading(spec: ModelSpec) -> object:
    """How it is loaded, and not from where its adapters' files come."""
    load = replace(spec.load, adapters=())
    return load, [(one.name, one.scale, source_key(as_model(spec, one))) for one in spec.load.adapters]


def as_model(spec: ModelSpec, adapter: AdapterSpec) -> ModelSpec:
    """What is newer of one is told and never taken by itself: nobody would have tried it."""
    return replace(
        _as_model(spec.name, adapter), suspend=spec.suspend, benchmark=spec.benchmark, check_every=spec.check_every,
        updates="notify" if spec.updates == "auto" else spec.updates,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _as_model(model: str, adapter: AdapterSpec) -> ModelSpec:
    return ModelSpec(
        f"{model}{PLUS}{adapter.name}", adapter.source, adapter.sha256, preload=False, lock=adapter.lock,
        adapter_of=model,
    )  # fmt: skip
