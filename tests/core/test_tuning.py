"""The search for faster settings: what is tried, what is better, that it ends, and that declared values always win."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.specs import HOST, declared, spec, started, verified

from offgridd.core import events as ev
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.challenge import challenger_name, challengers, contested
from offgridd.core.desired import Desired, LoadSpec, ModelSpec, Placement, Settings
from offgridd.core.edits import hold_back
from offgridd.core.fold import fold, forget
from offgridd.core.keys import load_key
from offgridd.core.measuring import Due, due
from offgridd.core.observed import Observed
from offgridd.core.plan import plan
from offgridd.core.tuned import TUNABLE, Result, Trial, Tried, Tuning, all_as_declared, as_declared, effective
from offgridd.core.tuning import (
    GAIN,
    LOSS,
    MOST_PAIRS,
    advanced,
    begun,
    candidate,
    ended,
    is_whole,
    judge,
    key_of,
    ratios_of_best,
    shown,
)

TUNE = BenchmarkSpec(when="schedule", tune="apply")
LOADS = st.builds(
    lambda threads, k, v, flash, deterministic: LoadSpec(
        64, threads=threads, deterministic=deterministic, placement=Placement(k, v, flash)
    ),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, "f16", "q8_0", "q4_0"]),
    st.sampled_from([None, "f16", "q8_0"]),
    st.booleans(),
    st.booleans(),
)


def tuned(load: LoadSpec, tunable: Sequence[str] = TUNABLE, **more: Any) -> ModelSpec:
    """What is tunable is not declared, and so as it is where the manifest is silent."""
    fields = {name: None for name in tunable if name.startswith("cache")}
    fields |= {"flash_attention": True} if "flash_attention" in tunable else {}
    load = replace(load, placement=replace(load.placement, **fields))
    load = replace(load, threads=None) if "threads" in tunable else load
    return replace(spec(benchmark=more.pop("benchmark", TUNE), **more), load=load, tunable=tuple(tunable))


def spec_of(**more: Any) -> ModelSpec:
    return tuned(LoadSpec(64), **more)


def rates(prompt: float, generation: float, count: int = 20) -> list[tuple[dict[str, float | None], Any]]:
    one: dict[str, float | None] = {"prompt_tps": 100.0, "generation_tps": 10.0}
    return [(one, {"prompt_tps": 100 * prompt, "generation_tps": 10 * generation})] * count


def field_of(load: LoadSpec, name: str) -> object:
    return load.threads if name == "threads" else getattr(load.placement, name)


def is_sound(load: LoadSpec) -> bool:
    """As `manifest.rules` says."""
    return load.placement.flash_attention or load.placement.cache_type_v in (None, "f16", "bf16", "f32")


@given(
    LOADS.filter(is_sound), st.lists(st.sampled_from(TUNABLE), unique=True), st.integers(1, 64),
    st.lists(st.sampled_from(["better", "worse", "same", "unclear", "failed"]), min_size=8, max_size=8),
)  # fmt: skip
def test_declared_values_always_win_and_the_search_ends(
    load: LoadSpec, tunable: list[str], cores: int, results: list[Result]
) -> None:
    one = tuned(load, tunable)
    tuning, measured = begun(one, "k", "h", None), {()}
    while (found := candidate(one, cores, tuning)) is not None:
        assert len(tuning.tried) < 8
        assert {name for name, _ in found.settings} <= set(tunable)
        assert sum(a != b for a, b in zip(_full(found.settings), _full(tuning.best), strict=True)) == 1
        measured.add(found.settings)
        tuning = advanced(tuning, Tried(found.field, found.value, found.settings, results[len(tuning.tried)]))
        assert is_whole(tuning)
    over = ended(tuning)
    assert is_whole(over)
    (after,) = effective(declared(one), {"m": over}, "h").models.values()
    assert all(field_of(after.load, name) == field_of(one.load, name) for name in set(TUNABLE) - set(tunable))
    assert after.tuned in measured, "what is applied was measured just so"
    assert not {name for name, _ in after.tuned} & {"cache_type_k", "cache_type_v"}
    assert is_sound(after.load)
    assert replace(after.load, threads=None, placement=Placement()) == replace(
        one.load, threads=None, placement=Placement()
    )
    assert as_declared(after) == one


def _full(settings: Settings) -> list[object]:
    return [dict(settings).get(name) for name in TUNABLE]


@given(st.lists(st.tuples(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0, 0.1)), min_size=1, max_size=6))
def test_the_best_is_never_worse_than_the_start(candidates: list[tuple[float, float, float]]) -> None:
    one = spec_of()
    tuning = begun(one, "k", "h", None)
    for number, (prompt, generation, noise) in enumerate(candidates):
        pairs = [
            (old, {name: value * (1 + noise * (-1) ** turn) for name, value in new.items()})
            for turn, (old, new) in enumerate(rates(prompt, generation, MOST_PAIRS))
        ]
        judged = judge(pairs, ratios_of_best(tuning))
        assert judged is not None, "at the most pairs it is over"
        tried = Tried("threads", number, (("threads", number),), judged.result, "", len(pairs), judged.ratios)
        tuning = advanced(tuning, tried)
    best = ratios_of_best(tuning)
    assert all(found.mid >= 1 - LOSS for found in best.values())
    assert not best or max(found.mid for found in best.values()) >= 1 + GAIN


@pytest.mark.parametrize(
    ("prompt", "generation", "result"),
    [(1.1, 1.0, "better"), (1.0, 1.1, "better"), (1.02, 1.02, "same"), (2.0, 0.9, "worse"), (1.1, 0.985, "better"),
     (1.1, 0.97, "worse"), (1.0, 1.0, "same")],
)  # fmt: skip
def test_a_rate_may_gain_and_the_other_must_not_lose(prompt: float, generation: float, result: str) -> None:
    found = judge(rates(prompt, generation), {})
    assert found is not None
    assert found.result == result


def test_few_pairs_say_nothing_and_noise_is_not_taken_for_speed() -> None:
    assert judge(rates(2, 2, 7), {}) is None
    assert judge(rates(2, 2, 14), {}) is None
    assert judge(rates(0.5, 2, 8), {}) is not None, "what is clearly worse is dropped soon"
    noisy = [pair for one in (0.7, 1.5) for pair in rates(one, one, MOST_PAIRS // 2)]
    assert judge(noisy[5:-5], {}) is None
    found = judge(noisy, {})
    assert found is not None
    assert found.result == "unclear"


def test_a_candidate_is_held_against_the_best_so_far() -> None:
    tuning = begun(spec_of(), "k", "h", None)
    first = judge(rates(1.5, 1.5), {})
    assert first is not None
    tuning = advanced(tuning, Tried("threads", 1, (("threads", 1),), first.result, "", 20, first.ratios))
    assert tuning.best == (("threads", 1),)
    for by, result in ((1.6, "better"), (1.5, "same"), (1.2, "worse")):
        found = judge(rates(by, by), ratios_of_best(tuning))
        assert found is not None
        assert found.result == result


def test_candidates_come_one_field_after_the_other() -> None:
    one, seen = spec_of(), []
    tuning = begun(one, "k", "h", None)
    while (found := candidate(one, 8, tuning)) is not None:
        seen.append((found.field, found.value))
        tuning = advanced(tuning, Tried(found.field, found.value, found.settings, "same"))
    assert seen == [
        ("threads", 4), ("threads", 1), ("flash_attention", False), ("cache_type_k", "q8_0"), ("cache_type_v", "q8_0")
    ]  # fmt: skip
    assert candidate(replace(one, load=replace(one.load, deterministic=True)), 1, begun(one, "k", "h", None)) is None
    quantised = tuned(LoadSpec(placement=Placement(cache_type_v="q8_0")), ("flash_attention",))
    assert candidate(quantised, 8, begun(quantised, "k", "h", None)) is None


def search(observed: Observed, one: ModelSpec, found: Settings = (), done: bool = True) -> Observed:
    key = key_of(one, observed.of("m"), observed)
    assert key is not None
    tuning = Tuning(key, HOST.kind, best=found, found=found, done=done)
    return fold(observed, [ev.Tuned("m", tuning)], 2.0)


def kinds(desired: Desired, observed: Observed, now: float = 3.0) -> list[str]:
    return [job.kind for job in due(desired, observed, now, 9e9).jobs]


def test_it_is_done_once_and_again_when_something_else_is_loaded() -> None:
    one = spec_of(benchmark=replace(TUNE, when="never"))
    observed = started(Observed(host=HOST), "m", one, 1)
    assert kinds(declared(one), observed) == ["tune"]
    assert kinds(declared(replace(one, tunable=())), observed) == []
    assert kinds(declared(replace(one, suspend=True)), observed) == []
    assert kinds(declared(one, suspend=True), observed) == []
    known = search(observed, one)
    assert kinds(declared(one), known) == []
    assert kinds(declared(one), fold(known, [ev.Retuned("m")], 3.0)) == ["tune"]
    assert kinds(declared(replace(one, load=LoadSpec(128))), known) == ["tune"]
    assert kinds(declared(one), replace(known, engine="newer")) == ["tune"]
    assert kinds(declared(one), replace(known, host=replace(HOST, kind="other"))) == ["tune"]
    waits = replace(known.tunings["m"], done=False, again=50.0)
    rests = fold(known, [ev.Tuned("m", waits)], 3.0)
    assert due(declared(one), rests, 3.0, 0.0) == Due((), 50.0)


def test_what_was_found_stays_until_the_next_search_and_never_on_another_machine() -> None:
    one = spec_of()
    observed = search(started(Observed(host=HOST), "m", one, 1), one, (("cache_type_k", "q8_0"), ("threads", 1)))
    again = fold(observed, [ev.Retuned("m")], 3.0)
    for known in (observed.tunings, again.tunings):
        (there,) = effective(declared(one), known, HOST.kind).models.values()
        assert (there.load.threads, there.load.placement.cache_type_k) == (1, None)
    assert begun(there, "k", HOST.kind, again.tunings["m"]).start == (("threads", 1),)
    desired = declared(one)
    assert effective(desired, observed.tunings, "another") is desired
    proposes = declared(replace(one, benchmark=replace(TUNE, tune="propose")))
    assert effective(proposes, observed.tunings, HOST.kind) is proposes
    settled = effective(desired, observed.tunings, HOST.kind)
    assert effective(settled, observed.tunings, HOST.kind) is settled
    assert all_as_declared(settled) == desired
    assert effective(settled, {}, HOST.kind) == desired
    assert kinds(settled, observed) == ["measure"]


def test_what_was_found_gives_way_to_what_is_declared_later() -> None:
    observed = search(started(Observed(host=HOST), "m", spec_of(), 1), spec_of(), (("flash_attention", False),))
    later = tuned(LoadSpec(placement=Placement(cache_type_v="q8_0")), ("flash_attention", "threads"))
    (there,) = effective(declared(later), observed.tunings, HOST.kind).models.values()
    assert there == later


def test_a_candidate_is_loaded_beside_what_serves_and_judged_by_nobody_else() -> None:
    one = spec_of()
    desired, observed = declared(one), started(Observed(host=HOST), "m", one, 1)
    trial, name = Trial("m", (("threads", 1),)), challenger_name("m")
    observed = fold(observed, [ev.TrialChosen(trial), ev.Demanded(name, gently=True)], 2.0)
    assert contested(desired, observed) == {}
    other = challengers(desired, observed)[name]
    assert (other.load.threads, other.preload, other.challenger) == (1, False, True)
    assert [a.model for a in plan(desired, observed, 3.0).start] == [name]  # it is verified
    observed = fold(observed, [ev.Verified(name, verified(one))], 3.0)
    (start,) = plan(desired, observed, 4.0).start
    assert start.key == load_key(other, verified(one).key, "")  # type: ignore[union-attr]
    assert forget(observed, desired).of(name).file is not None
    over = fold(observed, [ev.TrialChosen(None)], 5.0)
    assert forget(over, desired).of(name).file is None
    for gone in (replace(one, benchmark=None), replace(one, suspend=True), replace(one, tunable=())):
        assert challengers(declared(gone), observed) == {}


def test_what_is_tuned_is_no_edit_that_has_to_prove_itself() -> None:
    one = spec_of(benchmark=replace(TUNE, max_regression=0.1, on_fail="hold"))
    tunings = search(started(Observed(host=HOST), "m", one, 1), one, (("threads", 1),)).tunings
    serves = effective(declared(one), tunings, HOST.kind)
    assert serves.models["m"].load.threads == 1
    same = hold_back(all_as_declared(serves), declared(replace(one, description="new")))
    assert same.challengers == {}
    edited = replace(one, load=replace(one.load, context=128))
    held = effective(hold_back(all_as_declared(serves), declared(edited)), tunings, HOST.kind)
    assert (held.models["m"].load.threads, held.models["m"].load.context) == (1, 64)
    assert (held.challengers["m"].load.threads, held.challengers["m"].load.context) == (1, 128)
    given = replace(one, load=replace(one.load, threads=2), tunable=TUNABLE[1:])
    held = effective(hold_back(all_as_declared(serves), declared(given)), tunings, HOST.kind)
    assert (held.models["m"].load.threads, held.challengers["m"].load.threads) == (1, 2)


def test_status_says_what_was_tried_and_what_to_write() -> None:
    one = spec_of(benchmark=replace(TUNE, tune="propose"))
    assert shown(replace(one, benchmark=None), None, "k") is None
    assert (shown(one, None, "k") or {})["state"] == "waiting"
    assert (shown(replace(one, tunable=()), None, "k") or {})["state"] == "declared"
    judged = judge(rates(1.5, 1.25), {})
    assert judged is not None
    settings = (("cache_type_v", "q8_0"), ("flash_attention", False))
    tried = Tried("flash_attention", False, settings, judged.result, "", 20, judged.ratios, 4.0)
    going = advanced(begun(one, "k", "h", None), tried)
    assert (shown(one, going, "k") or {})["state"] == "searching"
    found = shown(one, ended(going, "cut"), "k") or {}
    assert found["proposal"] == ["cache_type_v: q8_0", "flash_attention: false"]
    assert (found["state"], found["coarser"], found["applied"]) == ("done", ["cache_type_v"], {})
    assert found["why"] == (
        "prompt 1.5 (1.5 to 1.5); generation 1.25 (1.25 to 1.25) of what served; cut; "
        "cache_type_v: q8_0 may cost quality: that is yours to declare"
    )
    assert (found["tried"][0]["pairs"], found["seconds"]) == (20, 4.0)
    assert (shown(one, ended(going), "other") or {})["state"] == "waiting"
