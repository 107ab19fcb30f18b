"""Observed + events -> Observed. Total: an event about a model or worker that is unknown changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from offgridd.core import events as ev
from offgridd.core.actions import Why
from offgridd.core.adapters import PLUS, with_adapters_of
from offgridd.core.challenge import challenger_name, challengers
from offgridd.core.desired import Desired
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin
from offgridd.core.memory import raised
from offgridd.core.observed import NO_FACTS, Eviction, ModelFacts, Observed, Retry, VerifiedFile, Worker
from offgridd.core.tuning import folded

BACKOFF_FIRST, BACKOFF_MOST = 1.0, 60.0  # seconds: 1, 2, 4 ... 60
_CRASHES = ("WorkerCrashed", "WorkerHung")  # the reasons that say that a process failed of itself
RESULTS = 4  # of a model that are remembered, each of another bench_key
PEAKS = 4  # load keys of a model whose peak is remembered: an edit may be taken back
CRASH_LIMIT, CRASH_WINDOW = 3, 300.0  # this many crashes within so many seconds are a crash loop


def fold(observed: Observed, happened: Iterable[ev.Event], now: float) -> Observed:
    """The facts after the events, in their order, all at `now` (monotonic seconds). The maps are copied once."""
    models, running, starting = dict(observed.models), dict(observed.running), dict(observed.starting)
    kept, whole, challenged = dict(observed.kept), dict[str, Any](), set(observed.challenged)
    for event in happened:
        match event:
            case ev.ManifestSeen(facts):
                whole["manifest"] = facts
            case ev.Listening(on):
                whole["listening"] = on
            case ev.HostSeen(host):
                whole["host"] = host
            case ev.Stopping():
                whole["stopping"] = True
            case ev.ActionStarted(model, key, charge):
                running[model] = key
                starting.update({model: charge} if charge else {})
            case ev.ActionEnded(model):
                running.pop(model, None)
                starting.pop(model, None)
            case ev.Reconsidered(model):
                models.update((name, _reconsidered(models.get(name, NO_FACTS))) for name in _meant(model, models))
            case ev.Judged(short, given_up):
                whole["short"] = {name: why for name, why in short.items() if name not in given_up}
                models.update((name, replace(models[name], demanded=False)) for name in given_up if name in models)
            case ev.Challenged(model):
                challenged.add(model)
            case ev.Unchallenged(model):
                challenged.discard(model)
                if (other := challenger_name(model)) in models:  # an edit that is judged next is not of that file
                    models[other] = replace(models[other], file=None, pin=None)
            case ev.Taken(model):
                challenged.discard(model)
                models[model] = _taken(models.get(model, NO_FACTS), models.pop(challenger_name(model), NO_FACTS))
                for other in [name for name in models if name.startswith(challenger_name(model) + PLUS)]:
                    own = model + other.removeprefix(challenger_name(model))
                    models[own] = replace(models.pop(other), look=models.get(own, NO_FACTS).look)
            case ev.Tuned() | ev.Retuned() | ev.TrialChosen():
                whole.update(folded(whole.get("tunings", observed.tunings), event))
            case ev.KeptRemoved(model):
                kept.pop(model, None)
            case _:
                if isinstance(event, ev.KeptDemanded):
                    kept[event.model] = event.spec
                if isinstance(event, ev.WorkerStarted):
                    starting.pop(event.model, None)
                before = models.get(event.model, NO_FACTS)
                after = _fold_model(before, event, now)
                if after is not before:
                    models[event.model] = after
    if challenged != observed.challenged:
        whole["challenged"] = frozenset(challenged)
    return replace(observed, models=models, running=running, starting=starting, kept=kept, **whole)


def forget(observed: Observed, desired: Desired) -> Observed:
    """Drops the facts of models that are neither declared nor asked for, nor have anything left to stop."""
    models, kept = observed.models, observed.kept
    others = challengers(desired, observed)
    beside = {*with_adapters_of({**desired.models, **others}), *map(challenger_name, observed.challenged)}

    def over(name: str, facts: ModelFacts) -> bool:
        if name in desired.models or facts.workers or facts.uses or name in observed.running or name in beside:
            return False  # a request that still waits must not count against a model that is added again
        return name not in kept or not facts.demanded or (facts.verify_retry or facts.start_retry) is not None

    gone = {name for name, facts in models.items() if over(name, facts)}
    if not gone:
        return observed
    return replace(
        observed,
        models={n: f for n, f in models.items() if n not in gone},
        kept={n: spec for n, spec in kept.items() if n not in gone},
    )


def backoff(count: int) -> float:
    """Seconds to wait after `count` failures in a row."""
    return float(min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(count - 1, 10)))


def _meant(model: str | None, models: Iterable[str]) -> list[str]:
    """All models, or one with its challenger, and the adapters of both."""
    if model is None:
        return list(models)
    both = (model, challenger_name(model))
    return [*both, *(name for name in models if name.startswith(tuple(one + PLUS for one in both)))]


def _reconsidered(facts: ModelFacts) -> ModelFacts:
    return replace(facts, verify_retry=None, start_retry=None, crashes=(), evicted=None)


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
        case ev.Benchmarked(_, result):
            others = [one for one in facts.results if one.bench_key != result.bench_key]
            return replace(facts, results=(*others, result)[-RESULTS:])
        case ev.Decided(_, verdict):
            return replace(facts, verdict=verdict)
        case ev.UpdateSeen(_, look):
            return replace(facts, look=look)
        case ev.NetworkAwaited():
            return facts if facts.network else replace(facts, network=True)
        case ev.VerifyFailed(_, key, failure):
            other = facts.file is not None and facts.file.source_key != key  # that of another question stays
            retry = _next_retry(facts.verify_retry, key, failure, now)
            return replace(facts, file=facts.file if other else None, network=False, verify_retry=retry)
        case ev.FileSeen(_, identities):
            drifted = facts.file is not None and tuple(p.identity for p in facts.file.parts) != identities
            return replace(facts, file=None) if drifted else facts
        case ev.WorkerStarted(_, worker, pid, key, cache, charge, disk):
            started = Worker(worker, key, pid, cache_ram=cache, cache_disk=disk, charge=charge)
            return replace(facts, workers=(*facts.workers, started))
        case ev.WorkerReady(_, worker, effective):
            ready = _with_worker(facts, worker, ready=True, effective=effective, ready_at=now)
            return replace(ready, start_retry=None, evicted=None)
        case ev.WorkerStopping(_, worker, why, by):
            return _leaves(_with_worker(facts, worker, stopping=True), why, by, now)
        case ev.CacheLimited():
            return _cache_limited(facts, event)
        case ev.Measured():
            return _measured(facts, event)
        case ev.Reranked():
            return replace(facts, evicted=None) if facts.evicted else facts
        case ev.Used(_, by, apart):
            ended = by < 0 and not apart  # also while something apart goes on, whose end says nothing
            gently = facts.gently and (apart or by < 0)
            used_at = now if ended else facts.used_at
            return replace(facts, uses=max(0, facts.uses + by), used_at=used_at, gently=gently)
        case ev.WorkerExited(_, worker, failure):
            return _exited(facts, worker, failure, now)
        case ev.StartFailed(_, key, failure):
            return _start_failed(facts, key, failure, now)
        case ev.Removed(_, drain):
            return replace(facts, drain=drain)
        case ev.Demanded() | ev.KeptDemanded():
            asked_at = facts.asked_at if facts.demanded else now
            gently = isinstance(event, ev.Demanded) and event.gently and (facts.gently or not facts.demanded)
            known = facts.demanded and not facts.leaving and facts.gently == gently
            return facts if known else replace(facts, demanded=True, leaving=False, asked_at=asked_at, gently=gently)
        case ev.Unloaded():
            return replace(facts, demanded=False, leaving=True)
        case _:
            return facts


def _taken(before: ModelFacts, challenger: ModelFacts) -> ModelFacts:
    """The model, with the file and the workers of its challenger beside its own."""
    return replace(
        before, file=challenger.file, pin=challenger.pin, workers=(*before.workers, *challenger.workers),
        peaks=dict([*before.peaks.items(), *challenger.peaks.items()][-PEAKS:]),
        verify_retry=None, start_retry=None, crashes=(), evicted=None, verdict=None,
    )  # fmt: skip


def _differ(pin: Pin, file: VerifiedFile) -> bool:
    """Whether a file that was verified for the pin's question has other bytes than the pin says."""
    return pin.key == file.source_key and [f.sha256 for f in pin.files] != [part.sha256 for part in file.parts]


def _with_worker(facts: ModelFacts, worker: int, **changes: object) -> ModelFacts:
    if all(w.id != worker for w in facts.workers):
        return facts
    workers = tuple(replace(w, **changes) if w.id == worker else w for w in facts.workers)  # type: ignore[arg-type]
    return replace(facts, workers=workers)


def _leaves(facts: ModelFacts, why: Why, by: str, now: float) -> ModelFacts:
    """Who asks for it again from now on has it loaded again."""
    if why in ("replaced", "removed"):
        return facts
    return replace(facts, demanded=False, evicted=Eviction(now, by) if why == "evicted" else facts.evicted)


def _cache_limited(facts: ModelFacts, now: ev.CacheLimited) -> ModelFacts:
    told = next((w for w in facts.workers if w.id == now.worker), None)
    if told is None:
        return facts
    charge = replace(told.charge, own=max(0, told.charge.own + now.bytes - told.cache_ram))
    return _with_worker(facts, now.worker, cache_ram=now.bytes, cache_disk=now.disk, charge=charge)


def _measured(facts: ModelFacts, seen: ev.Measured) -> ModelFacts:
    """What was measured only ever raises the charge, also of the next worker with this load key."""
    if seen.peak <= facts.peaks.get(seen.key, 0):
        return facts
    workers = tuple(
        replace(w, charge=raised(w.charge, seen.peak)) if w.load_key == seen.key else w for w in facts.workers
    )
    others = [(key, peak) for key, peak in facts.peaks.items() if key != seen.key]
    return replace(facts, workers=workers, peaks=dict([*others, (seen.key, seen.peak)][-PEAKS:]))


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
        retry = _next_retry(facts.start_retry, key, failure, now)
        if failure.reason == "OutOfMemory":  # not the same again at once: what filled the memory may be there still
            retry = replace(retry, at=now + BACKOFF_MOST)
        return replace(facts, start_retry=retry)
    crashes = (*(t for t in facts.crashes if facts.crash_key == key and now - t < CRASH_WINDOW), now)
    if len(crashes) >= CRASH_LIMIT and not failure.terminal:
        failure = _crash_loop(failure, len(crashes))
    retry = Retry(key, failure, len(crashes), None if failure.terminal else now + backoff(len(crashes)))
    return replace(facts, crashes=crashes, crash_key=key, start_retry=retry)


def _crash_loop(last: Failure, count: int) -> Failure:
    text = f"{last.message}; gave up after {count} times in {CRASH_WINDOW:.0f} s: edit the model or run offgrid retry"
    return Failure(last.condition, "CrashLoop", text, terminal=True)
