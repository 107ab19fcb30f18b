"""The file of a model with that of its draft: a model of the same manifest, which guesses for it. Pure."""

from __future__ import annotations

from dataclasses import replace

from offgridd.core.challenge import challengers
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.observed import ModelFacts, Observed, Retry
from offgridd.core.plan import current_file, standing_retry


def with_drafts(desired: Desired, observed: Observed) -> Observed:
    """`observed`, where each file that was verified has its draft's beside it, or it is said why that is not there."""
    specs = {**desired.models, **challengers(desired, observed)}
    changed: dict[str, ModelFacts] = {}
    for name, facts in observed.models.items():
        spec = specs.get(name)
        has = facts.file is not None and (facts.file.draft is not None or facts.draftless is not None)
        if facts.file is None or not (has or (spec is not None and spec.load.draft is not None)):
            continue
        now = _with_draft(spec.load.draft if spec else None, facts, desired, observed)
        if now is not facts:
            changed[name] = now
    return replace(observed, models={**observed.models, **changed}) if changed else observed


def _with_draft(draft: str | None, facts: ModelFacts, desired: Desired, observed: Observed) -> ModelFacts:
    spec = desired.models.get(draft) if draft is not None else None
    assert facts.file is not None
    kept = facts.file.draft if draft is not None else None  # what is held back goes on with a draft that was removed
    file = current_file(spec, observed.of(spec.name)) if spec else kept
    why = _why_not(draft, spec, observed) if draft is not None and file is None else None
    if facts.file.draft == file and facts.draftless == why:
        return facts
    return replace(facts, file=replace(facts.file, draft=file), draftless=why)


def _why_not(draft: str, spec: ModelSpec | None, observed: Observed) -> Retry | None:
    """Why its file will not come by waiting alone."""
    found = standing_retry(spec, observed.of(draft), observed.engine) if spec else None
    if spec is not None and found is None:
        return None
    why = f"{found.failure.reason}: {found.failure.message}" if found else "it is not declared any more"
    failure = Failure("Loaded", "WaitsForDraft", f"cannot load it without its draft {draft}: {why}")
    return replace(found, failure=failure) if found else Retry("", failure, 1, None)
