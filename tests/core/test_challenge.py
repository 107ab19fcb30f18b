"""Changes that have to prove themselves: what is held, what is live, and what ends it."""

from __future__ import annotations

from dataclasses import replace

from support.specs import HOLD, HOST, declared, spec, started, verified

from offgridd.core import events as ev
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.benchmarked import key_of
from offgridd.core.challenge import answered_by, challenger_name, challengers, contested
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import Desired, FileSource, MemorySpec, ModelSpec, ServerSpec
from offgridd.core.edits import hold_back, judged_otherwise, take
from offgridd.core.errors import Failure
from offgridd.core.fold import fold, forget
from offgridd.core.hub import Pin
from offgridd.core.keys import source_key
from offgridd.core.measuring import due
from offgridd.core.observed import (
    Observed,
    Result,
    Verdict,
)
from offgridd.core.plan import plan


def benchmarked(one: ModelSpec, observed: Observed, waits: ModelSpec | None = None) -> tuple[str, str]:
    found = next(c for c in model_conditions(one, observed.of("m"), observed, waits) if c.type == "Benchmarked")
    return found.status, found.reason


def test_only_what_is_loaded_otherwise_waits_and_all_else_takes_effect() -> None:
    before = declared(spec())
    held = hold_back(before, declared(spec(128, description="new", priority=3)))
    assert held.models["m"] == spec(description="new", priority=3)
    assert held.challengers == {"m": spec(128, description="new", priority=3)}
    assert held.held == ()
    assert hold_back(before, declared(spec(description="new"))).challengers == {}
    assert hold_back(before, declared(spec(128, benchmark=None))).models["m"].load.context == 128


def test_it_ends_when_it_is_taken_back_or_need_not_prove_itself_any_more() -> None:
    held = hold_back(declared(spec()), declared(spec(128)))
    assert hold_back(held, declared(spec())).challengers == {}
    free = hold_back(held, declared(spec(128, benchmark=replace(HOLD, on_fail="report"))))
    assert (free.challengers, free.models["m"].load.context) == ({}, 128)
    other = hold_back(held, declared(spec(256)))
    assert (other.models["m"].load.context, other.challengers["m"].load.context) == (64, 256)


def test_a_suspension_holds_it_and_begins_it_anew_when_it_ends() -> None:
    held = hold_back(declared(spec()), declared(spec(128)))
    frozen = hold_back(held, declared(spec(128), suspend=True))
    assert (frozen.challengers, frozen.held, frozen.models["m"].load.context) == ({}, ("m",), 64)
    assert hold_back(frozen, declared(spec(128))).challengers["m"].load.context == 128


def test_it_is_taken_only_as_it_was_judged() -> None:
    held = hold_back(declared(spec()), declared(spec(128)))
    assert take(held, "m", spec(256)) == held
    assert take(held, "m", spec(128)).models["m"] == spec(128)
    assert take(held, "m", spec(128)).challengers == {}


def test_a_challenger_is_verified_at_once_and_loaded_when_it_is_its_turn() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    name = challenger_name("m")
    observed = started(Observed(host=HOST), "m", spec(), 1)
    assert [a.model for a in plan(desired, observed, 2.0).start] == [name]  # it is verified
    observed = fold(observed, [ev.Verified(name, verified(spec(128)))], 2.0)
    assert plan(desired, observed, 3.0).start == ()
    assert forget(observed, desired).of(name).file is not None
    observed = fold(observed, [ev.Demanded(name, gently=True)], 3.0)
    (start,) = plan(desired, observed, 4.0).start
    assert (start.model, type(start).__name__) == (name, "StartWorker")
    assert forget(observed, hold_back(desired, declared(spec()))).of(name).file is None


def test_nobody_leaves_for_it() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    lazy = ModelSpec("lazy", FileSource("/l.gguf"), preload=False, priority=-5)
    little = replace(
        desired, models={**desired.models, "lazy": lazy}, server=ServerSpec(memory=MemorySpec(ram=1 << 21))
    )
    observed = started(Observed(host=HOST), "m", spec(), 1)
    observed = started(observed, "lazy", lazy, 2)
    name = challenger_name("m")
    observed = fold(
        observed, [ev.Verified(name, verified(spec(128))), ev.Demanded(name, True), ev.Used(name, 1, True)], 2.0
    )
    made = plan(little, observed, 3.0)
    assert not [a for a in made.start if a.model == "lazy"]
    assert made.short[name].failure.reason == "InsufficientMemory"
    assert not made.short[name].passes


def test_taken_it_has_the_workers_of_both_and_the_old_one_ends() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    observed = started(started(Observed(host=HOST), "m", spec(), 1), challenger_name("m"), spec(128), 2)
    observed = fold(observed, [ev.Taken("m", spec(128))], 3.0)
    desired = take(desired, "m", spec(128))
    assert [w.id for w in observed.of("m").workers] == [1, 2]
    serving = observed.of("m").serving()
    assert serving is not None
    assert serving.id == 2
    (stop,) = plan(desired, forget(observed, desired), 4.0).start
    assert (type(stop).__name__, stop.worker) == ("StopWorker", 1)  # type: ignore[union-attr]


def test_a_verdict_is_of_one_key() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    observed = started(Observed(host=HOST), "m", spec(), 1)
    observed = fold(observed, [ev.Verified(challenger_name("m"), verified(spec(128)))], 2.0)
    (job,) = due(desired, observed, 3.0, 0.0).jobs
    assert (job.kind, job.spec.load.context) == ("contest", 128)
    assert benchmarked(spec(), observed, spec(128)) == ("Unknown", "WaitsForIdle")
    observed = fold(observed, [ev.Decided("m", Verdict(job.key, "False", "Regressed", "slow"))], 3.0)
    assert due(desired, observed, 4.0, 0.0).jobs == ()
    assert benchmarked(spec(), observed, spec(128)) == ("False", "Regressed")
    conditions = model_conditions(spec(), observed.of("m"), observed, spec(128))
    assert (conditions[-1].status, conditions[-1].reason) == ("True", "Held")
    other = hold_back(desired, declared(spec(256)))
    assert [j.kind for j in due(other, observed, 4.0, 0.0).jobs] == ["contest"]
    assert challengers(other, observed)[challenger_name("m")].load.context == 256


def test_what_can_not_serve_is_not_protected() -> None:
    bad = spec(9000)  # more than the model was trained for
    desired = hold_back(declared(bad), declared(spec(128)))
    observed = fold(
        Observed(host=HOST),
        [ev.Verified("m", verified(bad)), ev.Verified(challenger_name("m"), verified(spec(128)))],
        1.0,
    )
    assert [job.kind for job in due(desired, observed, 2.0, 0.0).jobs] == ["take"]


def test_what_is_still_fetched_is_not_protected() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    here = [ev.Verified(challenger_name("m"), verified(spec(128)))]
    observed = fold(Observed(host=HOST), here, 1.0)
    assert [job.kind for job in due(desired, observed, 2.0, 0.0).jobs] == ["contest"]  # it is only being verified
    observed = fold(observed, [ev.NetworkAwaited("m")], 2.0)
    assert [job.kind for job in due(desired, observed, 3.0, 0.0).jobs] == ["take"]


def test_a_file_that_is_away_for_a_moment_is_protected() -> None:
    desired = hold_back(declared(spec()), declared(spec(128)))
    observed = fold(Observed(host=HOST), [ev.Verified(challenger_name("m"), verified(spec(128)))], 1.0)
    away = ev.VerifyFailed("m", source_key(spec()), Failure("Verified", "FileNotFound", "it is away"))
    kinds = []
    for _ in range(4):
        observed = fold(observed, [away], 2.0)
        kinds += [job.kind for job in due(desired, observed, 3.0, 0.0).jobs]
    assert kinds == ["contest", "contest", "contest", "take"]


def test_a_verdict_says_nothing_of_an_edit_that_came_after_it() -> None:
    held = hold_back(declared(spec()), declared(spec(128)))
    assert judged_otherwise(held, hold_back(held, declared(spec(128, description="new")))) == ()
    easier = replace(HOLD, max_regression=0.5)
    assert judged_otherwise(held, hold_back(held, declared(spec(128, benchmark=easier)))) == ("m",)
    back = hold_back(held, declared(spec()))
    assert judged_otherwise(held, back) == judged_otherwise(back, held) == ("m",)


def challenged(one: ModelSpec) -> Observed:
    """A newer file of it waits to be judged."""
    pin = Pin(source_key(one), "acme/m", "c" * 40, (), None, "")
    newer = [ev.Updated(challenger_name("m"), pin, verified(one, "b")), ev.Challenged("m")]
    return fold(started(Observed(host=HOST), "m", one, 1), newer, 2.0)


def test_a_newer_file_is_not_judged_while_nothing_may_change_and_is_there_afterwards() -> None:
    observed = challenged(spec())
    assert list(contested(declared(spec()), observed)) == ["m"]
    for frozen in (declared(spec(), suspend=True), declared(spec(suspend=True))):
        assert contested(frozen, observed) == {}
        assert forget(observed, frozen).of(challenger_name("m")).file is not None
    assert contested(declared(spec(benchmark=None)), observed) == {}  # it has nothing to prove
    assert contested(Desired(2, "d", ServerSpec(), {}), observed) == {}


def test_an_edit_after_a_newer_file_is_not_judged_with_that_file() -> None:
    observed = fold(challenged(spec()), [ev.Unchallenged("m")], 3.0)
    assert (observed.challenged, observed.of(challenger_name("m")).file) == (frozenset(), None)
    assert answered_by(challenger_name("m")) == ("m", challenger_name("m"))
    assert answered_by("m") == ("m",)


def test_it_is_measured_once_a_key_and_by_the_schedule() -> None:
    one = spec(benchmark=BenchmarkSpec(when="schedule", every=100.0))
    desired, observed = declared(one), started(Observed(host=HOST), "m", one, 1)
    key = key_of(one, observed.of("m"), observed)
    assert key is not None
    assert [job.kind for job in due(desired, observed, 2.0, 1000.0).jobs] == ["measure"]
    observed = fold(observed, [ev.Benchmarked("m", Result("k", "fine", key, 1000.0))], 2.0)
    found = due(desired, observed, 2.0, 1040.0)
    assert (found.jobs, found.later) == ((), 62.0)
    assert due(desired, observed, 2.0, 1101.0).jobs != ()
    assert due(desired, observed, 2.0, 500.0).jobs != ()  # the clock was wrong then
    assert due(declared(spec(benchmark=BenchmarkSpec(when="never"))), observed, 2.0, 0.0).jobs == ()
    assert due(declared(spec(benchmark=BenchmarkSpec())), observed, 2.0, 9e9).jobs == ()
    moved = replace(observed, host=replace(HOST, kind="another one"))
    assert due(declared(spec(benchmark=BenchmarkSpec())), moved, 2.0, 0.0).jobs != ()


def test_limits_are_held_against_the_newest_result() -> None:
    one = spec(benchmark=BenchmarkSpec(min_generation_tps=40, max_regression=0.1))
    observed = started(Observed(host=HOST), "m", one, 1)
    key = key_of(one, observed.of("m"), observed) or ""

    def seen(rate: float, least: float | None, disturbed: bool = False) -> tuple[str, str]:
        result = Result("k", "text", key, 1.0, (("pp", {"generation_tps": rate}),), disturbed, least, "worse")
        return benchmarked(one, fold(observed, [ev.Benchmarked("m", result)], 2.0))

    assert benchmarked(one, observed) == ("Unknown", "NotMeasured")
    assert seen(50, None) == ("True", "NoBaseline")
    assert seen(50, 0.95) == ("True", "Measured")
    assert seen(50, 0.85) == ("False", "Regressed")
    assert seen(30, 0.95) == ("False", "BelowThreshold")
    assert seen(30, 0.95, disturbed=True) == ("Unknown", "Disturbed")
