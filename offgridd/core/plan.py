"""plan(desired, observed, now): what to do next. The one place that decides; it never waits, logs or changes anything.

Once everything is as declared it answers nothing, and while an action runs for a model it starts no other for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from offgridd.core.actions import Action, LimitCache, Plan, Resolve, StartWorker, StopWorker, Verify, Why
from offgridd.core.adapters import with_adapters_of
from offgridd.core.admission import Admission, Candidate, admit
from offgridd.core.challenge import challengers
from offgridd.core.desired import DEFAULT_CONTEXT, Desired, LoadSpec, ModelSpec, RemoteSource, Use
from offgridd.core.errors import Failure
from offgridd.core.fit import Limits, declared, limits
from offgridd.core.hub import Pin
from offgridd.core.keys import load_key, shelf_key, source_key
from offgridd.core.memory import Host, charge, raised
from offgridd.core.observed import Charge, ModelFacts, Observed, Retry, Short, VerifiedFile
from offgridd.core.purpose import pooling_of
from offgridd.core.residents import Residents


@dataclass
class _Draft:
    """A plan that is being made."""

    now: float
    start: list[Action] = field(default_factory=list)
    cancel: list[str] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)
    wanted: list[Candidate] = field(default_factory=list)


def plan(desired: Desired, observed: Observed, now: float) -> Plan:
    """The actions that bring `observed` nearer to `desired`, at `now` (monotonic seconds)."""
    if observed.stopping:
        return Plan()
    draft, bounds = _Draft(now), limits(desired.server.memory, observed.host.memory)
    declared = {**desired.models, **challengers(desired, observed)}
    models = {**observed.kept, **with_adapters_of(declared)}
    for name in sorted({*models, *observed.models, *observed.running}):
        _consider(draft, name, models.get(name), observed, bounds)
    made = _admitted(draft, desired, models, observed, bounds)
    given_up = tuple(n for n in made.short if _is_given_up(models[n], observed.of(n)))
    wake_at = min([*draft.wakes, *made.wakes], default=None)
    start, cancel = (*draft.start, *made.stop, *made.start), (*draft.cancel, *made.cancel)
    return Plan(start, cancel, wake_at, made.short, given_up)


def _is_given_up(spec: ModelSpec, facts: ModelFacts) -> bool:
    """Nobody waits for it; who has it loaded to measure it says so himself."""
    return not (spec.preload or facts.uses or spec.challenger or facts.gently)


def _consider(draft: _Draft, name: str, spec: ModelSpec | None, observed: Observed, bounds: Limits) -> None:
    """What one model needs; where it wants a worker, the others have a say in that."""
    facts, running = observed.of(name), observed.running.get(name)
    if spec is None:
        draft.start += _stops(name, facts, keep=None, drain=facts.drain, why="removed")
        draft.cancel += [name] if running else []
        return
    wanted = _next_actions(spec, facts, observed.engine)
    main = next((a for a in wanted if isinstance(a, Resolve | Verify | StartWorker)), None)
    draft.start += [a for a in wanted if isinstance(a, StopWorker | LimitCache)]
    if running is not None:
        draft.cancel += [] if _still_wanted(running, spec, facts, observed.engine) else [name]
    elif main is not None:
        retry = facts.start_retry if isinstance(main, StartWorker) else facts.verify_retry
        if retry is not None and retry.key == main.key:
            if retry.at is None:
                return
            if retry.at > draft.now:
                draft.wakes.append(retry.at)
                return
        if isinstance(main, StartWorker):
            draft.wanted.append(Candidate(spec, facts, main, partial(_cost, spec, facts, main, observed, bounds)))
        else:
            draft.start.append(main)
    due = idle_until(spec, facts)
    if due is not None and due <= draft.now and not any(isinstance(a, StopWorker) for a in wanted):
        draft.start += _stops(name, facts, keep=None, drain=spec.drain, why="idle")
    elif due is not None and due > draft.now:
        draft.wakes.append(due)


def _admitted(
    draft: _Draft, desired: Desired, models: Mapping[str, ModelSpec], observed: Observed, bounds: Limits
) -> Admission:
    going = {a.worker for a in draft.start if isinstance(a, StopWorker)}
    going |= {w.id for name in draft.cancel for w in observed.of(name).workers if not w.ready}
    bound = declared(desired.server.memory, observed.host.memory) is not None or bool(bounds.gpu)
    residents = Residents.of(models, observed, going, bounds, frozen=desired.server.suspend, bound=bound)
    return admit(draft.wanted, observed, residents, draft.now)


def idle_until(spec: ModelSpec, facts: ModelFacts) -> float | None:
    """When a model that is loaded on demand is to be unloaded if nobody asks for it, monotonic."""
    serving = facts.serving()
    if serving is None or spec.preload or spec.pin or spec.suspend or spec.idle_unload is None or facts.uses:
        return None
    if facts.gently:
        return None  # who had it loaded to measure it unloads it
    return max(facts.used_at, serving.ready_at) + spec.idle_unload


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
    if file and pooling_of(file.header, spec.load) == "rank" and not file.header.shape.classifier:
        text = "cannot serve it as a reranker: nothing in the file makes a score; remove pooling or use another file"
        return Failure("Loaded", "NoClassifier", text, terminal=True)
    if file and file.draft and (why := _no_draft(spec, file, file.draft)):
        return Failure(
            "Loaded", "DraftUnsuitable", f"cannot guess with the draft {spec.load.draft}: {why}", terminal=True
        )
    if file and spec.load.kv_cells is not None:  # deterministic: a buffer a sequence, which has all its context
        context = spec.load.context or min(file.header.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
        least = context * spec.load.parallel if spec.load.deterministic else context
        if spec.load.kv_cells < least:
            text = f"cannot serve {least} tokens of context in {spec.load.kv_cells} kv_cells; raise kv_cells"
            return Failure("Loaded", "TooFewCells", text, terminal=True)
    return None


def _no_draft(spec: ModelSpec, file: VerifiedFile, draft: VerifiedFile) -> str:
    if pooling_of(file.header, spec.load):
        return "the model makes no text; remove speculative"
    if pooling_of(draft.header, LoadSpec()):
        return "it makes no text; name another model"
    return ""


def lacks_draft(spec: ModelSpec, file: VerifiedFile) -> bool:
    """Whether it waits for the file of its draft."""
    return spec.load.draft is not None and file.draft is None


def lacks_adapters(spec: ModelSpec, file: VerifiedFile) -> bool:
    """Whether it waits for files of its adapters."""
    return spec.load.adapters != tuple(one.spec for one in file.adapters)


def complete_file(spec: ModelSpec, facts: ModelFacts) -> VerifiedFile | None:
    """The current file, once all that is loaded with it is there: only then is it known what a worker has."""
    file = current_file(spec, facts)
    return file if file and not (lacks_draft(spec, file) or lacks_adapters(spec, file)) else None


def standing_failure(spec: ModelSpec, facts: ModelFacts, engine: str) -> Failure | None:
    """Why the model is not as declared and will not be by waiting alone: refused, or failed and not tried again yet."""
    found = standing_retry(spec, facts, engine)
    return found.failure if found else None


def standing_retry(spec: ModelSpec, facts: ModelFacts, engine: str) -> Retry | None:
    """The same, and how often it failed; what is refused is not tried."""
    retry, file = current_retry(spec, facts, engine), current_file(spec, facts)
    if refused := refusal(spec, file):
        return Retry("", refused, 1, None)
    return retry or ((facts.adapterless or facts.draftless) if file else None)


def obstacle(spec: ModelSpec, observed: Observed) -> Failure | None:
    """The same, and that there is no room for it."""
    facts, short = observed.of(spec.name), short_of(spec, observed)
    return standing_failure(spec, facts, observed.engine) or (short.failure if short else None)


def short_of(spec: ModelSpec, observed: Observed) -> Short | None:
    """Why there is no room for it, if that is what it waits for."""
    return observed.short.get(spec.name) if current_file(spec, observed.of(spec.name)) else None


def current_retry(spec: ModelSpec, facts: ModelFacts, engine: str) -> Retry | None:
    """The failure that stands in the way now, if there is one."""
    file = current_file(spec, facts)
    retry, key = facts.verify_retry, source_key(spec)
    if file is not None:
        retry, key = facts.start_retry, load_key(spec, file.key, engine)
    return retry if retry and retry.key == key else None


def _next_actions(spec: ModelSpec, facts: ModelFacts, engine: str) -> list[Action]:
    file = current_file(spec, facts)
    live = [w for w in facts.workers if not w.stopping]
    if _leaves(spec, facts):
        return _stops(spec.name, facts, keep=None, drain=spec.drain, why="unloaded")
    if spec.suspend and any(w.ready for w in live):
        return []  # also where its file was touched or replaced: what serves goes on
    if refusal(spec, file) or (file is not None and complete_file(spec, facts) is None):
        return []  # what serves goes on: the last good state survives a bad edit
    if file is None:
        pin, asked = current_pin(spec, facts), source_key(spec)
        if isinstance(spec.source, RemoteSource) and pin is None:
            return [Resolve(spec.name, spec.source, spec.sha256, asked, Use(spec.load, spec.cache_ram))]
        return [Verify(spec.name, spec.source, spec.sha256, asked, pin, spec.adapter_of is not None)]
    if spec.adapter_of is not None:
        return []
    key = load_key(spec, file.key, engine)
    mine = next((w for w in live if w.load_key == key), None)
    if mine is not None and mine.ready:
        told = (mine.cache_ram, mine.cache_disk) == (spec.cache_ram, spec.disk)
        limit: list[Action] = [] if told else [LimitCache(spec.name, mine.id, spec.cache_ram, spec.disk)]
        return limit + _stops(spec.name, facts, keep=mine.id, drain=spec.drain)
    if not (spec.preload or facts.demanded):
        return _stops(spec.name, facts, keep=None, drain=spec.drain, why="unloaded")
    if mine is not None:
        return []
    shelf = shelf_key(spec, file.content, engine) if spec.load.persist else ""
    return [StartWorker(spec.name, file, spec.load, spec.cache_ram, key, cache_disk=spec.disk, shelf=shelf)]


def _cost(spec: ModelSpec, facts: ModelFacts, action: StartWorker, observed: Observed, bounds: Limits) -> Charge:
    found = charge(action.key, spec, action.file, Host(observed.host.features, bounds, observed.host.gpu))
    return raised(found, facts.peaks.get(action.key, 0))


def _stops(name: str, facts: ModelFacts, *, keep: int | None, drain: float, why: Why = "replaced") -> list[Action]:
    # One that still loads belongs to its StartWorker: cancelling that ends it.
    ending = [w for w in facts.workers if w.ready and not w.stopping and w.id != keep]
    return [StopWorker(name, w.id, drain, why) for w in ending]


def _leaves(spec: ModelSpec, facts: ModelFacts) -> bool:
    """A challenger that was unloaded is fetched and verified all the same when another one is declared."""
    return facts.leaving and not spec.preload and not (spec.challenger and not facts.workers)


def _still_wanted(running: str, spec: ModelSpec, facts: ModelFacts, engine: str) -> bool:
    if _leaves(spec, facts):
        return False
    return running in _keys(spec, current_file(spec, facts), engine)


def _keys(spec: ModelSpec, file: VerifiedFile | None, engine: str) -> Iterable[str]:
    yield source_key(spec)
    if file is not None:
        yield load_key(spec, file.key, engine)
