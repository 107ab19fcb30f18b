"""plan(desired, observed, now): what to do next. The one place that decides; it never waits, logs or changes anything.

Once everything is as declared it answers nothing, and while an action runs for a model it starts no other for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from offgridd.core.actions import Action, LimitCache, Plan, Resolve, StartWorker, StopWorker, Verify
from offgridd.core.desired import DEFAULT_CONTEXT, Desired, ModelSpec, RemoteSource, Use
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin
from offgridd.core.keys import load_key, source_key
from offgridd.core.observed import ModelFacts, Observed, Retry, VerifiedFile

KEPT_IDLE = 600.0  # seconds that a kept file stays loaded when nobody asks for it


def plan(desired: Desired, observed: Observed, now: float) -> Plan:
    """The actions that bring `observed` nearer to `desired`, at `now` (monotonic seconds)."""
    if observed.stopping:
        return Plan()
    start: list[Action] = []
    cancel: list[str] = []
    wakes: list[float] = []
    kept, until = kept_now(observed, now)
    models = {**desired.models, kept.name: kept} if kept else desired.models
    if until is not None:
        wakes.append(until)
    for name in sorted({*models, *observed.models, *observed.running}):
        facts, running, spec = observed.of(name), observed.running.get(name), models.get(name)
        if spec is None:
            start += _stops(name, facts, keep=None, drain=facts.drain)
            cancel += [name] if running else []
            continue
        wanted = _next_actions(spec, facts, observed.engine)
        main = next((a for a in wanted if isinstance(a, Resolve | Verify | StartWorker)), None)
        start += [a for a in wanted if isinstance(a, StopWorker | LimitCache)]
        if running is not None:
            cancel += [] if _still_wanted(running, spec, facts, observed.engine) else [name]
        elif main is not None:
            retry = facts.start_retry if isinstance(main, StartWorker) else facts.verify_retry
            if retry is None or retry.key != main.key:
                start.append(main)
            elif retry.at is not None:
                (start.append(main) if retry.at <= now else wakes.append(retry.at))
    return Plan(tuple(start), tuple(cancel), min(wakes, default=None))


def kept_now(observed: Observed, now: float) -> tuple[ModelSpec | None, float | None]:
    """The kept file that is to be served now, and when that ends if nobody asks for it until then."""
    use = observed.kept
    if use is None:
        return None, None
    if use.busy:
        return use.spec, None
    until = use.since + KEPT_IDLE
    return (use.spec, until) if now < until else (None, None)


def current_file(spec: ModelSpec, facts: ModelFacts) -> VerifiedFile | None:
    """The verified file, if it was verified for what the spec asks now."""
    return facts.file if facts.file and facts.file.source_key == source_key(spec) else None


def current_pin(spec: ModelSpec, facts: ModelFacts) -> Pin | None:
    """What the hub's source means, if that is locked or was found out for what the spec asks now."""
    if isinstance(spec.lock, Pin):
        return spec.lock
    return facts.pin if facts.pin and facts.pin.key == source_key(spec) else None


def refusal(spec: ModelSpec, file: VerifiedFile | None) -> Failure | None:
    """Why this model can not be served as declared, known without trying."""
    if isinstance(spec.lock, Failure):
        return spec.lock
    if file and spec.load.context and file.header.context_length and spec.load.context > file.header.context_length:
        trained = file.header.context_length
        text = f"cannot serve {spec.load.context} tokens of context: the model was trained on {trained}; lower context"
        return Failure("Loaded", "ContextTooLong", text, terminal=True)
    if file and spec.load.kv_cells is not None:  # deterministic: a buffer a sequence, which has all its context
        context = spec.load.context or min(file.header.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        least = context * spec.load.parallel if spec.load.deterministic else context
        if spec.load.kv_cells < least:
            text = f"cannot serve {least} tokens of context in {spec.load.kv_cells} kv_cells; raise kv_cells"
            return Failure("Loaded", "TooFewCells", text, terminal=True)
    return None


def standing_failure(spec: ModelSpec, facts: ModelFacts, engine: str) -> Failure | None:
    """Why the model is not as declared and will not be by waiting alone: refused, or failed and not tried again yet."""
    retry = current_retry(spec, facts, engine)
    return refusal(spec, current_file(spec, facts)) or (retry.failure if retry else None)


def current_retry(spec: ModelSpec, facts: ModelFacts, engine: str) -> Retry | None:
    """The failure that stands in the way now, if there is one."""
    file = current_file(spec, facts)
    retry, key = (
        (facts.start_retry, load_key(spec, file.key, engine)) if file else (facts.verify_retry, source_key(spec))
    )
    return retry if retry and retry.key == key else None


def _next_actions(spec: ModelSpec, facts: ModelFacts, engine: str) -> list[Action]:
    file = current_file(spec, facts)
    live = [w for w in facts.workers if not w.stopping]
    if spec.suspend and any(w.ready for w in live):
        return []  # also where its file was touched or replaced: what serves goes on
    if refusal(spec, file):
        return []  # what serves goes on: the last good state survives a bad edit
    if file is None:
        pin, asked = current_pin(spec, facts), source_key(spec)
        if isinstance(spec.source, RemoteSource) and pin is None:
            return [Resolve(spec.name, spec.source, spec.sha256, asked, Use(spec.load, spec.cache_ram))]
        return [Verify(spec.name, spec.source, spec.sha256, asked, pin)]
    key = load_key(spec, file.key, engine)
    mine = next((w for w in live if w.load_key == key), None)
    if mine is not None and mine.ready:
        told = mine.cache_ram == spec.cache_ram
        limits: list[Action] = [] if told else [LimitCache(spec.name, mine.id, spec.cache_ram)]
        return limits + _stops(spec.name, facts, keep=mine.id, drain=spec.drain)
    if not (spec.preload or facts.demanded):
        return _stops(spec.name, facts, keep=None, drain=spec.drain)
    if mine is not None:
        return []
    return [StartWorker(spec.name, file, spec.load, spec.cache_ram, key)]


def _stops(name: str, facts: ModelFacts, *, keep: int | None, drain: float) -> list[Action]:
    # One that still loads belongs to its StartWorker: cancelling that ends it.
    return [StopWorker(name, w.id, drain) for w in facts.workers if w.ready and not w.stopping and w.id != keep]


def _still_wanted(running: str, spec: ModelSpec, facts: ModelFacts, engine: str) -> bool:
    file = current_file(spec, facts)
    return running in _keys(spec, file, engine)


def _keys(spec: ModelSpec, file: VerifiedFile | None, engine: str) -> Iterable[str]:
    yield source_key(spec)
    if file is not None:
        yield load_key(spec, file.key, engine)
