"""Conditions, computed from desired and observed and never stored (the Kubernetes convention).

Every condition is there from the first look on. `Status` adds when it last changed; that is kept where it is shown.
"""

from __future__ import annotations

from dataclasses import replace

from offgridd.core.adapters import PLUS, adapters_of
from offgridd.core.benchmarked import benchmarked
from offgridd.core.bundle import BUNDLED
from offgridd.core.condition import Condition
from offgridd.core.desired import FileSource, ModelSpec, PackageSource
from offgridd.core.errors import Failure
from offgridd.core.keys import load_key
from offgridd.core.observed import ModelFacts, Observed
from offgridd.core.plan import current_file, current_pin, lacks_adapters, lacks_draft, obstacle
from offgridd.core.purpose import shown
from offgridd.core.sizes import show_size
from offgridd.core.updates import MEASURED_FIRST, current_look, why_fixed

MODEL_TYPES = ("Resolved", "Downloaded", "Verified", "Loaded", "Benchmarked", "UpToDate", "Sandboxed", "Ready")
_STAGES = ("Resolved", "Downloaded", "Verified", "Loaded")


def model_conditions(
    spec: ModelSpec, facts: ModelFacts, observed: Observed, declared: ModelSpec | None = None
) -> tuple[Condition, ...]:
    """The eight conditions of a model, in the order of MODEL_TYPES. `declared`: what waits to be judged."""
    stages = _stages(spec, facts, observed, obstacle(spec, observed))
    by, measured = {c.type: c for c in stages}, benchmarked(spec, facts, observed, declared)
    held = f"what is declared does not serve: {measured.reason}: {measured.message}" if declared is not None else ""
    return (
        *stages,
        measured,
        _up_to_date_with_adapters(spec, facts, observed),
        _sandboxed(facts),
        _ready(by, suspended=spec.suspend, serving=facts.serving() is not None, held=held),
    )


def resting_conditions(spec: ModelSpec, facts: ModelFacts) -> tuple[Condition, ...]:
    """Of a kept file that nobody has asked for in this life of the daemon: it was verified when it came."""
    return (
        Condition("Resolved", "True", "Pinned"),
        Condition("Downloaded", "True", "InStore"),
        Condition("Verified", "True", "DigestKnown"),
        Condition("Loaded", "False", "OnDemand", "the first request loads it"),
        Condition("Benchmarked", "Unknown", "NotMeasured"),
        _up_to_date(spec, facts),
        _sandboxed(facts),
        Condition("Ready", "True", "Ready"),
    )


def _stages(spec: ModelSpec, facts: ModelFacts, observed: Observed, failure: Failure | None) -> list[Condition]:
    """Resolved, Downloaded, Verified, Loaded: those before the failure hold, those after it wait."""
    if current_file(spec, facts) is not None and (failure is None or failure.condition not in _STAGES[:3]):
        done = [_done(kind, spec, facts) for kind in _STAGES[:3]]
        return [*done, _loaded(spec, facts, observed, failure)]
    serving = facts.serving() is not None
    after = "an earlier worker still serves" if serving else ""
    if failure is None or failure.condition not in _STAGES:
        pinned = [_done("Resolved", spec, facts)] if current_pin(spec, facts) else []
        stages = pinned + [Condition(t, "Unknown", "Progressing") for t in _STAGES[len(pinned) : 3]]
        return [*stages, Condition("Loaded", "Unknown", "Progressing", after)]
    at = _STAGES.index(failure.condition)
    stages = [_done(kind, spec, facts) for kind in _STAGES[:at]]
    stages.append(Condition(failure.condition, "False", failure.reason, failure.message))
    stages += [Condition(t, "Unknown", "Waiting", f"waits for {failure.condition}") for t in _STAGES[at + 1 :]]
    if after:
        stages[-1] = Condition("Loaded", "False", "Stale", f"{after}; what is declared now is not what runs")
    return stages


def _done(kind: str, spec: ModelSpec, facts: ModelFacts) -> Condition:
    """A stage that holds."""
    pin = current_pin(spec, facts)
    if kind == "Verified":
        return Condition(kind, "True", "DigestKnown")
    if pin is None:
        return Condition(kind, "True", "Local")
    if kind == "Downloaded":
        return Condition(kind, "True", "InStore")
    place = f"{pin.repo} at {pin.commit[:12]}; " if pin.repo else ""
    reason = "Locked" if spec.lock else "Bundled" if pin.why == BUNDLED else "Pinned"
    return Condition(kind, "True", reason, place + pin.why)


def _loaded(spec: ModelSpec, facts: ModelFacts, observed: Observed, failure: Failure | None) -> Condition:
    file = current_file(spec, facts)
    assert file is not None
    key = load_key(spec, file.key, observed.engine)
    mine = next((w for w in facts.workers if w.load_key == key and not w.stopping), None)
    if mine is not None and mine.ready:
        degraded = mine.effective.template if mine.effective else None
        does = shown(mine.effective.pooling) if mine.effective else ""
        return Condition("Loaded", "True", "TemplateDegraded" if degraded else "Serving", degraded or does)
    old = "; an earlier worker, with what was declared before, still serves" if facts.serving() else ""
    if failure is not None:
        return Condition("Loaded", "False", failure.reason, failure.message + old)
    if lacks_adapters(spec, file):
        return Condition("Loaded", "False", "WaitsForAdapter", f"not all of its adapters are there yet{old}")
    if lacks_draft(spec, file):
        return Condition("Loaded", "False", "WaitsForDraft", f"its draft {spec.load.draft} is not there yet{old}")
    if spec.preload or facts.demanded:
        doing = "the worker is loading the file" if mine is not None else "its worker starts when it is its turn"
        return Condition("Loaded", "False", "Loading", doing + old)
    return Condition("Loaded", "False", "OnDemand", "the first request loads it")


def _sandboxed(facts: ModelFacts) -> Condition:
    serving = facts.serving()
    if serving is None or serving.effective is None:
        return Condition("Sandboxed", "Unknown", "NotLoaded", "it is known when a worker serves")
    missing = serving.effective.unconfined
    if missing:
        return Condition("Sandboxed", "False", "Partial", "not confined: " + "; ".join(missing))
    return Condition("Sandboxed", "True", "Confined")


def _up_to_date_with_adapters(spec: ModelSpec, facts: ModelFacts, observed: Observed) -> Condition:
    """Of the model; where nothing newer than that is known, of the adapter that there is something newer than."""
    found = _up_to_date(spec, facts)
    for name, one in adapters_of([spec]).items() if found.status != "False" else ():
        other = _up_to_date(one, observed.of(name))
        if other.status == "False":
            return replace(other, message=f"adapter {name.removeprefix(spec.name + PLUS)}: {other.message}")
    return found


def _up_to_date(spec: ModelSpec, facts: ModelFacts) -> Condition:
    kind, pin = "UpToDate", current_pin(spec, facts)
    if isinstance(spec.source, PackageSource | FileSource):
        return Condition(kind, "True", "Local")
    if why := why_fixed(spec):
        return Condition(kind, "True", "Fixed", why)
    if pin is None:
        return Condition(kind, "Unknown", "Waiting", "waits for Resolved")
    look = current_look(pin, facts.look)
    if look is None:
        manual = spec.updates == "manual"
        return Condition(kind, "Unknown", "Manual" if manual else "NotChecked", "offgrid outdated looks at once")
    if look.failure is not None:
        return Condition(kind, "Unknown", "CheckFailed", look.failure.message)
    if look.newer is None:
        moved = f"the same files stand at {look.commit[:12]}" if look.commit != pin.commit else ""
        return Condition(kind, "True", "Current", moved)
    if look.rejected:
        text = f"{look.newer.files[0].path} at {look.commit[:12]} was tried and is not taken: {look.rejected}"
        report = "benchmark.on_fail: report, and " if spec.holds else ""  # else it is only measured again
        how = f"to take it all the same: {report}offgrid update {spec.name}"
        return Condition(kind, "False", "UpdateRejected", f"{text}; {how}")
    how = f"offgrid lock --update {spec.name}" if spec.lock else f"offgrid update {spec.name}"
    how = MEASURED_FIRST if spec.adapter_of is not None and spec.holds and not spec.lock else how
    text = f"{look.newer.files[0].path} at {look.commit[:12]} is another file ({show_size(look.newer.size)}): {how}"
    return Condition(kind, "False", "UpdateAvailable", text)


def _ready(by: dict[str, Condition], *, suspended: bool, serving: bool, held: str) -> Condition:
    if suspended and serving:
        return Condition("Ready", "True", "Suspended", "it serves as it did when it was suspended")
    for kind in ("Resolved", "Verified", "Loaded"):
        found = by[kind]
        if found.status != "True" and not (kind == "Loaded" and found.reason == "OnDemand"):
            return Condition("Ready", "False", found.reason, found.message)
    if held:
        return Condition("Ready", "True", "Held", held)
    loaded = by["Loaded"]
    if loaded.reason == "TemplateDegraded":
        return Condition("Ready", "True", loaded.reason, loaded.message)
    return Condition("Ready", "True", "Suspended" if suspended else "Ready")
