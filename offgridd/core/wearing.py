"""The file of a model with those of its adapters, which are verified as models of their own. Pure."""

from __future__ import annotations

from dataclasses import replace

from offgridd.core.adapters import as_model
from offgridd.core.challenge import challengers
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.observed import AdapterPart, ModelFacts, Observed
from offgridd.core.plan import current_file, standing_retry


def with_adapters(desired: Desired, observed: Observed) -> Observed:
    """`observed`, where each file that was verified has its adapters' beside it, or it is said why one is not there."""
    specs = {**desired.models, **challengers(desired, observed)}
    changed: dict[str, ModelFacts] = {}
    for name, facts in observed.models.items():
        spec = specs.get(name)
        if spec is None or facts.file is None:
            continue
        if spec.load.adapters or facts.file.adapters or facts.adapterless:
            now = _with_adapters(spec, facts, observed)
            if now is not facts:
                changed[name] = now
    return replace(observed, models={**observed.models, **changed}) if changed else observed


def _with_adapters(spec: ModelSpec, facts: ModelFacts, observed: Observed) -> ModelFacts:
    assert facts.file is not None
    parts, why = list[AdapterPart](), None
    for adapter in spec.load.adapters:
        one = as_model(spec, adapter)
        file = current_file(one, observed.of(one.name))
        if file is not None:
            parts.append(AdapterPart(adapter, file.parts[0]))
        elif found := standing_retry(one, observed.of(one.name), observed.engine):
            text = f"adapter {adapter.name}: {found.failure.message}"
            why = why or replace(found, failure=replace(found.failure, message=text))
    worn = tuple(parts) if len(parts) == len(spec.load.adapters) else ()
    if facts.file.adapters == worn and facts.adapterless == why:
        return facts
    return replace(facts, file=replace(facts.file, adapters=worn), adapterless=why)
