"""The plan's promises, by a state machine: edits, failures, crashes and time in any order.

It converges, is silent once converged, runs one action a model, never stops what is declared and serving without a
successor, and never starts two workers for one load key. What it starts fits the budget beside every process there is;
room is made by idle models alone, of those that may be asked for it; who is left out could not be helped. Nobody
leaves for what is only to be measured, and a change that has to prove itself leaves the model as it was until then.
"""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from offgridd.core import events as ev
from offgridd.core.actions import LimitCache, Resolve, StartWorker, StopWorker, Verify
from offgridd.core.adapters import adapters_of
from offgridd.core.adopting import KEPT_IDLE, kept_name, kept_spec
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.challenge import challenger_name, challengers, contested
from offgridd.core.conditions import MODEL_TYPES, model_conditions
from offgridd.core.desired import (
    AdapterSpec,
    Desired,
    FileSource,
    HubSource,
    LoadSpec,
    MemorySpec,
    ModelSpec,
    ServerSpec,
)
from offgridd.core.edits import hold_back, reached_otherwise, take
from offgridd.core.errors import Failure
from offgridd.core.fit import limits
from offgridd.core.fold import BACKOFF_MOST, fold, forget
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import load_key, source_key
from offgridd.core.memory import Host, Ledger, charge, raised
from offgridd.core.observed import Effective, Identity, ModelHeader, Observed, VerifiedFile
from offgridd.core.plan import current_file, current_pin, current_retry, plan
from offgridd.core.readiness import all_ready, settled, whole_conditions
from offgridd.core.tuned import TUNABLE, Trial, Tuning, all_as_declared, effective
from offgridd.core.wearing import with_adapters

HEADER = ModelHeader("llama", "tiny", 0, 4096, 1, 32, 2, 288, 12, 1000, True)
NAMES = st.sampled_from(["a", "b", "c"])


def pinned(key: str, letter: str) -> Pin:
    return Pin(key, "o/x", "c", (HubFile("x", 1, "0" * 63 + letter),), None, "only")


FROM_HERE = AdapterSpec("p", FileSource("/m/x.gguf"))
FROM_A_HUB = AdapterSpec("q", HubSource("o/x", "q.gguf"))
UNLOCKED = replace(FROM_A_HUB, lock=Failure("Resolved", "NotLocked", "cannot", True))
SPECS = st.builds(
    lambda name, source, context, preload, alias, suspend, cache, disk, lock, rank, benchmark, adapters: ModelSpec(
        name,
        source,
        preload=preload,
        load=LoadSpec(context=context, persist=disk is not None, adapters=adapters),
        aliases=(alias,),
        suspend=suspend,
        cache_ram=cache,
        cache_disk=disk or 0,
        lock=lock if isinstance(source, HubSource) else None,
        priority=rank[0],
        pin=rank[1],
        idle_unload=None if preload or rank[1] else rank[2],
        benchmark=benchmark,
        tunable=TUNABLE if benchmark is not None and benchmark.tune == "apply" else (),
    ),
    NAMES,
    st.sampled_from(
        [
            FileSource("/m/x.gguf"),
            FileSource("/m/y.gguf"),
            HubSource("o/x"),
            HubSource("o/x", quants=("Q8_0",)),
            HubSource("o/x", endpoint="http://mirror"),
        ]
    ),
    st.sampled_from([None, 512, 1024, 8192]),
    st.booleans(),
    st.sampled_from(["p", "q"]),
    st.sampled_from([False, False, True]),
    st.sampled_from([0, 1 << 20]),
    st.sampled_from([None, None, 0, 1 << 20]),
    st.sampled_from([None, None, None, pinned("question", "l"), Failure("Resolved", "NotLocked", "cannot", True)]),
    st.tuples(st.sampled_from([0, 0, 5]), st.sampled_from([False, False, True]), st.sampled_from([None, 60.0])),
    st.sampled_from([None, BenchmarkSpec(max_regression=0.1, on_fail="hold"), BenchmarkSpec(tune="apply")]),
    st.sampled_from([(), (), (FROM_HERE,), (FROM_A_HUB,), (replace(FROM_A_HUB, scale=0.5), FROM_HERE), (UNLOCKED,)]),
)
ROOM = [None, 90_000_000, 150_000_000, 260_000_000]  # bytes: of none, one and two workers


def hopeless(spec: ModelSpec) -> bool:
    """Refused as it is declared."""
    locks = [spec.lock, *(one.lock for one in spec.load.adapters)]
    return spec.load.context == 8192 or any(isinstance(lock, Failure) for lock in locks)


class PlanMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desired, self.observed, self.now, self.ids = Desired(), Observed(engine="e"), 0.0, 0
        self.open: dict[str, Resolve | Verify | tuple[int, StartWorker]] = {}
        self.room: int | None = None

    def put(self, event: ev.Event) -> None:
        self.observed = with_adapters(self.desired, fold(self.observed, (event,), self.now))

    def step(self) -> bool:
        """One pass of the loop; False when there was nothing to do."""
        self.observed = with_adapters(self.desired, forget(self.observed, self.desired))
        made = plan(self.desired, self.observed, self.now)
        for name in made.cancel:
            self.end(name, cancelled=True)
        for action in made.start:
            if action.model.startswith("kept/") and not isinstance(action, StopWorker):
                assert action.model in self.observed.kept
            if isinstance(action, StopWorker):
                self.check_stop(action)
                self.put(ev.WorkerStopping(action.model, action.worker, action.why, action.by))
                continue
            if isinstance(action, LimitCache):
                told = next(w for w in self.observed.of(action.model).workers if w.id == action.worker)
                assert (told.cache_ram, told.cache_disk) != (action.bytes, action.disk)
                self.put(ev.CacheLimited(action.model, action.worker, action.bytes, action.disk))
                continue
            assert action.model not in self.open, "two actions for one model"
            cost = action.charge if isinstance(action, StartWorker) else None
            self.put(ev.ActionStarted(action.model, action.key, cost))
            if isinstance(action, Resolve | Verify):
                hub = isinstance(action.source, HubSource)
                asked = isinstance(action, Resolve)
                assert asked or hub == (action.pin is not None)
                self.open[action.model] = action
            else:
                assert all(w.load_key != action.key or w.stopping for w in self.observed.of(action.model).workers)
                assert not action.model.endswith(("+p", "+q")), "an adapter is never loaded by itself"
                assert self.taken().fits(action.charge), "it starts beside what is there, also beside what still ends"
                self.ids += 1
                self.put(
                    ev.WorkerStarted(
                        action.model,
                        self.ids,
                        1000 + self.ids,
                        action.key,
                        action.cache_ram,
                        action.charge,
                        action.cache_disk,
                    )
                )
                self.open[action.model] = (self.ids, action)
        if made.short != self.observed.short or made.given_up:
            self.put(ev.Judged(made.short, made.given_up))
        return not made.empty

    def taken(self) -> Ledger:
        """By every process there is."""
        workers = [w for facts in self.observed.models.values() for w in facts.workers]
        return Ledger.of(limits(self.desired.server.memory, self.observed.host.memory), [w.charge for w in workers])

    def check_stop(self, action: StopWorker) -> None:
        facts, spec = self.observed.of(action.model), self.wanted().get(action.model)
        stopped = next(w for w in facts.workers if w.id == action.worker)
        assert stopped.ready
        assert not stopped.stopping
        if action.why == "evicted":
            spec = spec or self.observed.kept[action.model]
            assert challenger_name("") not in action.by, "nobody leaves for what is only to be measured"
            assert not any([spec.pin, spec.suspend, self.desired.server.suspend, facts.uses])
        elif action.why == "idle":
            assert spec or action.model in self.observed.kept
            assert not facts.uses
        elif action.why == "replaced":
            assert spec
            another = any(w.ready and not w.stopping and w.id != stopped.id for w in facts.workers)
            assert another or self.room is not None, "where there is room the old one serves until the new one does"

    def wanted(self) -> dict[str, ModelSpec]:
        both = {**self.desired.models, **challengers(self.desired, self.observed)}
        return {**both, **adapters_of(both.values())}

    def end(self, name: str, *, good: bool = False, cancelled: bool = False, terminal: bool = False) -> None:
        action = self.open.pop(name)
        failure = Failure("Verified", "Bad", "cannot", terminal)
        if isinstance(action, Resolve):
            if good:
                self.put(ev.Resolved(name, pinned(action.key, "x")))
            elif not cancelled:
                self.put(ev.VerifyFailed(name, action.key, replace(failure, condition="Resolved")))
        elif isinstance(action, Verify):
            path = action.source.path if isinstance(action.source, FileSource) else "blob-x.gguf"
            if good:
                sha256 = action.pin.files[0].digest if action.pin else "0" * 63 + path[-6]
                self.put(ev.Verified(name, VerifiedFile(path, Identity(1, 1, 1, 1), sha256, HEADER, action.key)))
            elif not cancelled:
                self.put(ev.VerifyFailed(name, action.key, failure))
        else:
            worker, start = action
            if good:
                self.put(ev.WorkerReady(name, worker, Effective(start.load.context or 4096, 1, 4096, 1, None)))
            else:
                reason = "LoadFailed" if self.ids % 2 else "WorkerCrashed"
                cause = None if cancelled else replace(failure, condition="Loaded", reason=reason)
                self.put(ev.WorkerExited(name, worker, cause))
        self.put(ev.ActionEnded(name))

    @rule(
        specs=st.lists(SPECS, max_size=3, unique_by=lambda s: s.name),
        suspend=st.sampled_from([False, False, True]),
        room=st.sampled_from(ROOM),
    )
    def edit(self, specs: list[ModelSpec], suspend: bool, room: int | None) -> None:
        self.room = room
        server = ServerSpec(suspend=suspend, memory=MemorySpec(room))
        declared = Desired(self.desired.generation + 1, "", server, {s.name: s for s in specs})
        before = all_as_declared(self.desired)
        self.desired = hold_back(before, declared)
        for name in reached_otherwise(before, self.desired):
            self.put(ev.Reconsidered(name))
            assert self.observed.of(name).verify_retry is None
        self.apply_tuned()

    def apply_tuned(self) -> None:
        self.desired = effective(self.desired, self.observed.tunings, self.observed.host.kind)
        self.observed = with_adapters(self.desired, self.observed)

    @rule(name=NAMES, threads=st.sampled_from([None, 1, 2]))
    def try_settings(self, name: str, threads: int | None) -> None:
        """They are loaded beside what serves; None: no longer."""
        trial = Trial(name, (("threads", threads),)) if threads else None
        self.put(ev.TrialChosen(trial))
        if trial is not None and challenger_name(name) in challengers(self.desired, self.observed):
            self.put(ev.Demanded(challenger_name(name), gently=True))

    @rule(name=NAMES, threads=st.sampled_from([None, 1, 2]))
    def found_faster(self, name: str, threads: int | None) -> None:
        found = (("threads", threads),) if threads else ()
        self.put(ev.Tuned(name, Tuning("k", self.observed.host.kind, best=found, found=found, done=True)))
        self.apply_tuned()

    @rule()
    def think(self) -> None:
        self.step()

    @rule(good=st.booleans(), terminal=st.booleans(), pick=st.integers(0, 9))
    def finish_one(self, good: bool, terminal: bool, pick: int) -> None:
        if self.open:
            self.end(sorted(self.open)[pick % len(self.open)], good=good, terminal=terminal)

    @rule(name=NAMES, asked=st.booleans())
    def worker_dies(self, name: str, asked: bool) -> None:
        for worker in self.observed.of(name).workers[:1]:
            if worker.ready:
                cause = None if asked and worker.stopping else Failure("Loaded", "WorkerCrashed", "died")
                self.put(ev.WorkerExited(name, worker.id, cause))

    @rule(name=NAMES, letter=st.sampled_from("yz"))
    def update(self, name: str, letter: str) -> None:
        """Also while what was pinned before is still verified."""
        spec = self.desired.models.get(name)
        pin = current_pin(spec, self.observed.of(name)) if spec else None
        if spec is None or pin is None or spec.lock is not None:
            return
        newer = pinned(source_key(spec), letter)
        file = VerifiedFile("blob", Identity(1, 1, 1, 1), newer.files[0].digest, HEADER, newer.key)
        self.put(ev.Updated(name, newer, file))

    @rule(name=NAMES)
    def contest(self, name: str) -> None:
        if name in self.desired.challengers:
            self.put(ev.Demanded(challenger_name(name), gently=True))

    @rule(name=NAMES)
    def measure_gently(self, name: str) -> None:
        self.put(ev.Demanded(name, gently=True))

    @rule(name=NAMES, taken=st.booleans())
    def decide(self, name: str, taken: bool) -> None:
        """Its worker goes, or serves beside the old one, which then goes."""
        spec, other = self.desired.challengers.get(name), challenger_name(name)
        serving = self.observed.of(other).serving()
        if spec is None:
            return
        if not taken or serving is None or other in self.open:
            self.put(ev.Unloaded(other))
            return
        self.observed = fold(self.observed, (ev.Taken(name, spec),), self.now)
        self.desired = take(self.desired, name, spec)
        self.observed = with_adapters(self.desired, self.observed)
        assert serving in self.observed.of(name).workers

    @rule(name=NAMES)
    def demand(self, name: str) -> None:
        self.put(ev.Demanded(name))

    @rule(path=st.sampled_from(["1", "2"]))
    def demand_kept(self, path: str) -> None:
        pin = replace(pinned("k", "k"), repo="o/k", files=(HubFile(path, 1, "0" * 63 + "k"),))
        spec = kept_spec(kept_name(pin), pin)
        self.put(ev.KeptDemanded(spec.name, spec))

    @rule(name=st.sampled_from(["a", "b", "c", "kept/o/k/1", "kept/o/k/2"]), by=st.sampled_from([1, -1]))
    def use(self, name: str, by: int) -> None:
        self.put(ev.Used(name, by))

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.put(ev.Unloaded(name))

    @rule(name=NAMES, more=st.sampled_from([1, 40_000_000]))
    def measure(self, name: str, more: int) -> None:
        for worker in self.observed.of(name).workers[:1]:
            self.put(ev.Measured(name, worker.load_key, worker.charge.own + more))

    @rule(path=st.sampled_from(["1", "2"]))
    def remove_kept(self, path: str) -> None:
        self.put(ev.KeptRemoved(f"kept/o/k/{path}"))

    @rule(name=st.sampled_from(["a", "b", "c", "a+p", "a+q", "b@next+q"]), gone=st.booleans())
    def file_drifts(self, name: str, gone: bool) -> None:
        self.put(ev.FileSeen(name, None if gone else (Identity(1, 1, 1, 2),)))

    @rule(seconds=st.floats(0, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def conditions_are_whole(self) -> None:
        for spec in self.desired.models.values():
            declared = contested(self.desired, self.observed).get(spec.name)
            found = model_conditions(spec, self.observed.of(spec.name), self.observed, declared)
            assert declared is None or spec.load != declared.load or source_key(spec) != source_key(declared)
            assert tuple(c.type for c in found) == MODEL_TYPES
            assert all(c.reason and " " not in c.reason for c in found)
            facts = self.observed.of(spec.name)
            if isinstance(spec.source, HubSource) and found[0].status == "True":
                assert current_pin(spec, facts)
            if isinstance(spec.lock, Failure):
                assert found[0].reason == "NotLocked"
            pin, file = current_pin(spec, facts), current_file(spec, facts)
            assert not pin or not file or pin.files[0].sha256 == file.sha256, "an old file came back"
        whole_conditions(self.desired, self.observed, ())

    def teardown(self) -> None:
        """When the faults end it converges: by itself but for what is terminal, then wholly, and then it is silent."""
        self.converge()
        for name, spec in self.desired.models.items():
            facts = self.observed.of(name)
            retry = current_retry(spec, facts, self.observed.engine)
            stands = (retry and retry.at is None) or (facts.adapterless and facts.adapterless.at is None)
            if spec.preload and not stands and not hopeless(spec):
                ready = model_conditions(spec, facts, self.observed)[-1].status == "True"
                assert ready or self.room is not None, (spec, facts)
        for name, facts in self.observed.models.items():
            self.put(ev.Used(name, -facts.uses))
        for name in challengers(self.desired, self.observed):
            self.put(ev.Unloaded(name))
        self.put(ev.TrialChosen(None))
        self.put(ev.Reconsidered())
        self.converge()
        self.now += KEPT_IDLE
        self.converge()
        loaded = {n for n, facts in self.observed.models.items() if facts.workers and n not in self.desired.models}
        assert not loaded, "what is kept and idle goes"
        assert plan(self.desired, self.observed, self.now).empty
        assert settled(self.desired, self.observed)
        self.check_left_out()
        servable = {n: s for n, s in self.desired.models.items() if not hopeless(s) and n not in self.observed.short}
        assert all_ready(replace(self.desired, models=servable), self.observed)

    def check_left_out(self) -> None:
        """There is room for nobody who was left out, even if all went that may be asked to."""
        models = {**self.observed.kept, **self.wanted()}
        host = Host(frozenset(), limits(self.desired.server.memory, None))
        for name in self.observed.short:
            spec, facts = models[name], self.observed.of(name)
            assert self.room is not None
            if facts.gently:
                continue
            assert facts.file is not None
            key = load_key(spec, facts.file.key, self.observed.engine)
            cost = raised(charge(key, spec, facts.file, host), facts.peaks.get(key, 0))
            ledger = self.taken()
            for other, there in self.observed.models.items():
                held = models[other].pin or models[other].suspend or self.desired.server.suspend
                lower = models[other].priority < spec.priority
                if other == name or (not held and lower):
                    for worker in there.workers:
                        ledger.remove(worker.charge)
            assert not ledger.fits(cost), (spec, self.observed)

    def converge(self) -> None:
        for _ in range(60):
            self.now += BACKOFF_MOST + 1  # also longer than who was evicted waits
            for name in list(self.open):
                self.end(name, good=True)
            for name, facts in self.observed.models.items():
                for worker in facts.workers:
                    if worker.stopping:
                        self.put(ev.WorkerExited(name, worker.id, None))
            if not self.step() and not self.open:
                break
        else:
            raise AssertionError("does not converge")


TestPlan = PlanMachine.TestCase
TestPlan.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
