"""Observed + events -> Observed. Total: an event about a model or worker that is unknown changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin
from offgridd.core.observed import NO_FACTS, KeptUse, ModelFacts, Observed, Retry, VerifiedFile, Worker

BACKOFF_FIRST, BACKOFF_MOST = 1.0, 60.0  # seconds: 1, 2, 4 ... 60
_CRASHES = ("WorkerCrashed",)  # the reasons that say that a process died of itself
CRASH_LIMIT, CRASH_WINDOW = 3, 300.0  # this many crashes within so many seconds are a crash loop


def fold(observed: Observed, happened: Iterable[ev.Event], now: float) -> Observed:
    """The facts after the events, in their order, all at `now` (monotonic seconds). The maps are copied once."""
    models, running = dict(observed.models), dict(observed.running)
    manifest, listening, stopping, kept = observed.manifest, observed.listening, observed.stopping, observed.kept
    for event in happened:
        match event:
            case ev.ManifestSeen(facts):
                manifest = facts
            case ev.Listening(on):
                listening = on
            case ev.Stopping():
                stopping = True
            case ev.ActionStarted(model, key):
                running[model] = key
            case ev.ActionEnded(model):
                running.pop(model, None)
            case ev.Reconsidered(model):
                names = list(models) if model is None else [model]
                models.update((name, _reconsidered(models.get(name, NO_FACTS))) for name in names)
            case ev.KeptDemanded() | ev.KeptUsed() | ev.KeptRemoved():
                kept = _fold_kept(kept, event, now)
                if isinstance(event, ev.KeptDemanded):
                    models[event.model] = replace(models.get(event.model, NO_FACTS), demanded=True)
            case _:
                before = models.get(event.model, NO_FACTS)
                after = _fold_model(before, event, now)
                if after is not before:
                    models[event.model] = after
    return Observed(models, running, manifest, observed.engine, listening, stopping, kept)


def forget(observed: Observed, desired: Desired) -> Observed:
    """Drops the facts of models that are neither declared nor have anything left to stop."""
    models, running = observed.models, observed.running
    stays = {*desired.models, observed.kept.spec.name} if observed.kept else desired.models
    gone = {n for n, f in models.items() if n not in stays and not f.workers and n not in running}
    return replace(observed, models={n: f for n, f in models.items() if n not in gone}) if gone else observed


def _fold_kept(
    kept: KeptUse | None, event: ev.KeptDemanded | ev.KeptUsed | ev.KeptRemoved, now: float
) -> KeptUse | None:
    mine = kept is not None and kept.spec.name == event.model
    match event:
        case ev.KeptDemanded(_, spec):
            return KeptUse(spec, kept.busy if kept is not None and mine else 0, now)
        case ev.KeptUsed(_, by):
            return replace(kept, busy=max(0, kept.busy + by), since=now) if kept is not None and mine else kept
        case ev.KeptRemoved():
            return None if mine else kept


def backoff(count: int) -> float:
    """Seconds to wait after `count` failures in a row."""
    return float(min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(count - 1, 10)))


def _reconsidered(facts: ModelFacts) -> ModelFacts:
    return replace(facts, verify_retry=None, start_retry=None, crashes=())


def _next_retry(before: Retry | None, key: str, failure: Failure, now: float) -> Retry:
    count = before.count + 1 if before and before.key == key else 1
    return Retry(key, failure, count, None if failure.terminal else now + backoff(count))


def _fold_model(facts: ModelFacts, event: ev.Event, now: float) -> ModelFacts:
    match event:
        case ev.Resolved(_, pin):
            other = facts.file is not None and _differ(pin, facts.file)  # the same question, asked again later
            return replace(facts, pin=pin, file=None if other else facts.file, verify_retry=None)
        case ev.Verified(_, file):
            if facts.pin is not None and _differ(facts.pin, file):  # it was updated while the old one was verified
                return replace(facts, network=False)
            return replace(facts, file=file, verify_retry=None, network=False)
        case ev.Updated(_, pin, file):
            return replace(facts, pin=pin, file=file, verify_retry=None)
        case ev.UpdateSeen(_, look):
            return replace(facts, look=look)
        case ev.NetworkAwaited():
            return facts if facts.network else replace(facts, network=True)
        case ev.VerifyFailed(_, key, failure):
            return replace(
                facts, file=None, network=False, verify_retry=_next_retry(facts.verify_retry, key, failure, now)
            )
        case ev.FileSeen(_, identities):
            drifted = facts.file is not None and tuple(p.identity for p in facts.file.parts) != identities
            return replace(facts, file=None) if drifted else facts
        case ev.WorkerStarted(_, worker, pid, key, cache):
            return replace(facts, workers=(*facts.workers, Worker(worker, key, pid, cache_ram=cache)))
        case ev.WorkerReady(_, worker, effective):
            return replace(_with_worker(facts, worker, ready=True, effective=effective), start_retry=None)
        case ev.WorkerStopping(_, worker):
            return _with_worker(facts, worker, stopping=True)
        case ev.CacheLimited(_, worker, size):
            return _with_worker(facts, worker, cache_ram=size)
        case ev.WorkerExited(_, worker, failure):
            return _exited(facts, worker, failure, now)
        case ev.StartFailed(_, key, failure):
            return _start_failed(facts, key, failure, now)
        case ev.Removed(_, drain):
            return replace(facts, drain=drain)
        case ev.Demanded():
            return facts if facts.demanded else replace(facts, demanded=True)
        case _:
            return facts


def _differ(pin: Pin, file: VerifiedFile) -> bool:
    """Whether a file that was verified for the pin's question has other bytes than the pin says."""
    return pin.key == file.source_key and [f.sha256 for f in pin.files] != [part.sha256 for part in file.parts]


def _with_worker(facts: ModelFacts, worker: int, **changes: object) -> ModelFacts:
    if all(w.id != worker for w in facts.workers):
        return facts
    workers = tuple(replace(w, **changes) if w.id == worker else w for w in facts.workers)  # type: ignore[arg-type]
    return replace(facts, workers=workers)


def _exited(facts: ModelFacts, worker: int, failure: Failure | None, now: float) -> ModelFacts:
    gone = next((w for w in facts.workers if w.id == worker), None)
    if gone is None:
        return facts
    facts = replace(facts, workers=tuple(w for w in facts.workers if w.id != worker))
    if failure is None or gone.stopping:
        return facts
    return _start_failed(facts, gone.load_key, failure, now)


def _start_failed(facts: ModelFacts, key: str, failure: Failure, now: float) -> ModelFacts:
    """A crash counts against this load key, and too many of them stop the restarts until something changes.

    Whatever else keeps a worker from starting may pass, and is tried again for ever.
    """
    if failure.reason not in _CRASHES:
        return replace(facts, start_retry=_next_retry(facts.start_retry, key, failure, now))
    recent = tuple(t for t in facts.crashes if facts.crash_key == key and now - t < CRASH_WINDOW)
    crashes = (*recent, now)
    if len(crashes) >= CRASH_LIMIT and not failure.terminal:
        failure = _crash_loop(failure, len(crashes))
    retry = Retry(key, failure, len(crashes), None if failure.terminal else now + backoff(len(crashes)))
    return replace(facts, crashes=crashes, crash_key=key, start_retry=retry)


def _crash_loop(last: Failure, count: int) -> Failure:
    text = (
        f"{last.message}; gave up after {count} times in {CRASH_WINDOW:.0f} s: edit the model or run offgrid reconcile"
    )
    return Failure(last.condition, "CrashLoop", text, terminal=True)
