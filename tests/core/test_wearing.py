"""A model waits for the files of its adapters, each of which is found, pinned and verified as a model is."""

from __future__ import annotations

from dataclasses import replace

from support.specs import EFFECTIVE, HEADER, HOLD, HOST

from offgridd.core import events as ev
from offgridd.core.actions import Resolve, StartWorker, Verify
from offgridd.core.adapters import adapters_of, beside
from offgridd.core.benchmark import BenchmarkSpec
from offgridd.core.challenge import answered_by, challengers
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import AdapterSpec, Desired, FileSource, HubSource, LoadSpec, ModelSpec, Secret
from offgridd.core.edits import changes, hold_back, reached_otherwise
from offgridd.core.errors import Failure
from offgridd.core.fold import fold, forget
from offgridd.core.garbage import referred
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import source_key
from offgridd.core.measuring import TRIES, due
from offgridd.core.observed import Charge, Identity, Observed, VerifiedFile
from offgridd.core.plan import plan
from offgridd.core.readiness import is_settled
from offgridd.core.tuned import Tuning
from offgridd.core.tuning import key_of
from offgridd.core.updates import Look, look_key
from offgridd.core.verifying import subjects
from offgridd.core.wearing import with_adapters

LOCAL = AdapterSpec("a", FileSource("/a"))
FETCHED = AdapterSpec("b", HubSource("o/r", "b.gguf"), scale=0.5)
MODEL = ModelSpec("m", FileSource("/m"), load=LoadSpec(context=64, adapters=(LOCAL, FETCHED)))
DESIRED = Desired(1, "d", models={"m": MODEL})
A, B = adapters_of([MODEL]).values()


def file(spec: ModelSpec, letter: str) -> VerifiedFile:
    return VerifiedFile(f"/{spec.name}", Identity(1, 2, 3, ord(letter)), letter * 64, HEADER, source_key(spec))


def pin(letter: str, spec: ModelSpec = B) -> Pin:
    return Pin(source_key(spec), "o/r", "c" * 40, (HubFile("b.gguf", 3, letter * 64),), None, "asked for")


def seen(observed: Observed, *happened: ev.Event, desired: Desired = DESIRED) -> Observed:
    return with_adapters(desired, forget(fold(observed, happened, 1.0), desired))


def doing(observed: Observed, desired: Desired = DESIRED) -> dict[str, type]:
    return {action.model: type(action) for action in plan(desired, observed, 2.0).start}


def condition(observed: Observed, kind: str, spec: ModelSpec = MODEL) -> tuple[str, str, str]:
    found = next(c for c in model_conditions(spec, observed.of("m"), observed) if c.type == kind)
    return found.status, found.reason, found.message


START = Observed(host=HOST)
HERE = seen(START, ev.Verified("m", file(MODEL, "m")), ev.Verified("m+a", file(A, "a")))
WHOLE = seen(HERE, ev.Resolved("m+b", pin("b")), ev.Verified("m+b", file(B, "b")))


def served(observed: Observed, desired: Desired = DESIRED) -> Observed:
    (start,) = (one for one in plan(desired, observed, 2.0).start if isinstance(one, StartWorker))
    return seen(
        observed, ev.WorkerStarted("m", 1, 1, start.key, MODEL.cache_ram, Charge(1)), ev.WorkerReady("m", 1, EFFECTIVE),
        desired=desired,
    )  # fmt: skip


def test_each_is_found_and_verified_for_itself_and_the_model_waits() -> None:
    assert doing(START) == {"m": Verify, "m+a": Verify, "m+b": Resolve}
    assert all(one.adapter for one in plan(DESIRED, START, 2.0).start if isinstance(one, Verify) and one.model != "m")
    assert doing(HERE) == {"m+b": Resolve}
    assert condition(HERE, "Loaded")[1] == "WaitsForAdapter"
    assert not is_settled(MODEL, HERE)
    assert is_settled(MODEL, seen(HERE, ev.NetworkAwaited("m+b"))), "a first download holds up no start"
    assert doing(seen(HERE, ev.Resolved("m+b", pin("b")))) == {"m+b": Verify}
    (start,) = plan(DESIRED, WHOLE, 2.0).start
    assert isinstance(start, StartWorker)
    assert [(one.spec, one.part.sha256[0]) for one in start.file.adapters] == [(LOCAL, "a"), (FETCHED, "b")]
    assert condition(served(WHOLE), "Ready")[0] == "True"


def test_what_serves_goes_on_while_one_is_verified_again() -> None:
    observed = served(WHOLE)
    touched = seen(observed, ev.FileSeen("m+a", None))
    assert doing(touched) == {"m+a": Verify}
    assert "still serves" in condition(touched, "Loaded")[2]
    assert not plan(DESIRED, seen(touched, ev.Verified("m+a", file(A, "a"))), 2.0).start, "the same bytes"
    assert doing(seen(touched, ev.Verified("m+a", file(A, "x")))) == {"m": StartWorker}


def test_what_fails_is_said_of_the_model_by_the_adapters_name() -> None:
    failure = Failure("Verified", "InvalidModel", "cannot use it: it is no adapter")
    observed = seen(served(WHOLE), ev.VerifyFailed("m+a", source_key(A), failure))
    assert condition(observed, "Verified") == ("False", "InvalidModel", "adapter a: cannot use it: it is no adapter")
    assert condition(observed, "Resolved")[0] == "True"
    assert condition(observed, "Loaded")[1] == "Stale"
    assert condition(observed, "Ready")[0] == "False"
    assert is_settled(MODEL, observed)
    again = seen(observed, ev.Reconsidered("m"))
    assert doing(again) == {"m+a": Verify}, "retrying a model is so with its adapters"
    without = replace(MODEL, load=LoadSpec(context=64, adapters=(FETCHED,)))
    desired = replace(DESIRED, models={"m": without})
    now = seen(observed, desired=desired)
    assert condition(now, "Verified", without)[0] == "True"
    assert "m+a" not in now.models, "it is forgotten"
    assert doing(now, desired) == {"m": StartWorker}


def test_the_way_to_an_adapter_costs_nothing_and_its_scale_a_load() -> None:
    def edited(adapter: AdapterSpec) -> Desired:
        return replace(DESIRED, models={"m": replace(MODEL, load=replace(MODEL.load, adapters=(LOCAL, adapter)))})

    mirrored = edited(replace(FETCHED, source=HubSource("o/r", "b.gguf", endpoint="https://mirror")))
    assert [change.kind for change in changes(DESIRED, mirrored)] == ["live"]
    assert reached_otherwise(DESIRED, mirrored) == ("m",)
    assert not plan(mirrored, seen(served(WHOLE), desired=mirrored), 2.0).start
    scaled = edited(replace(FETCHED, scale=1.0))
    assert [change.kind for change in changes(DESIRED, scaled)] == ["reload"]
    assert doing(seen(served(WHOLE), desired=scaled), scaled) == {"m": StartWorker}


def test_its_blob_is_needed_and_its_pin_outlives_a_contest() -> None:
    assert referred(DESIRED, START, {"m+b": pin("b")}) == {"b" * 64: "Declared"}
    waiting = replace(DESIRED, challengers={"m": replace(MODEL, load=replace(MODEL.load, context=32))})
    assert "c" * 64 in referred(waiting, START, {"m@next+b": pin("c")})
    assert answered_by("m+b") == answered_by("m@next+b") == ("m+b", "m@next+b"), "what serves comes first"
    other = replace(MODEL, load=replace(MODEL.load, adapters=(FETCHED,)))
    judged = seen(
        START, ev.Resolved("m@next+b", pin("c")), ev.Verified("m@next+b", file(B, "c")),
        desired=replace(DESIRED, challengers={"m": other}),
    )  # fmt: skip
    taken = seen(judged, ev.Taken("m", other), desired=replace(DESIRED, models={"m": other}))
    assert taken.of("m+b").pin == pin("c")
    assert "m@next+b" not in taken.models


def test_a_lock_says_which_file_an_adapter_is() -> None:
    locked = replace(FETCHED, lock=pin("d"))
    spec = replace(MODEL, load=replace(MODEL.load, adapters=(locked,)))
    desired = replace(DESIRED, models={"m": spec})
    (verify,) = (one for one in plan(desired, HERE, 2.0).start if one.model == "m+b")
    assert isinstance(verify, Verify)
    assert verify.pin == pin("d")
    missing = replace(FETCHED, lock=Failure("Resolved", "NotLocked", "run offgrid lock", terminal=True))
    spec = replace(MODEL, load=replace(MODEL.load, adapters=(missing,)))
    observed = seen(HERE, desired=replace(DESIRED, models={"m": spec}))
    assert condition(observed, "Resolved", spec) == ("False", "NotLocked", "adapter b: run offgrid lock")


def contest(old: ModelSpec, new: ModelSpec) -> tuple[Desired, Observed]:
    """Both with the adapter of this host, all files there, and nothing loaded."""
    desired = replace(DESIRED, models={"m": old}, challengers={"m": new})
    behind = challengers(desired, START)["m@next"]
    worn = {**adapters_of([old]), **adapters_of([behind])}
    here = [ev.Verified("m", file(old, "m")), ev.Verified("m@next", file(behind, "m"))]
    return desired, seen(START, *here, *(ev.Verified(n, file(s, "a")) for n, s in worn.items()), desired=desired)


HELD = replace(MODEL, preload=False, benchmark=HOLD, load=LoadSpec(context=64, adapters=(LOCAL,)))


def kinds(observed: Observed, desired: Desired) -> list[str]:
    return [job.kind for job in due(desired, observed, 2.0, 2.0).jobs]


def test_one_hiccup_of_an_adapter_lets_no_change_through_that_has_to_prove_itself() -> None:
    desired, observed = contest(HELD, replace(HELD, load=replace(HELD.load, context=32)))
    assert kinds(observed, desired) == ["contest"]
    failed = ev.VerifyFailed("m+a", source_key(A), Failure("Verified", "FileChanging", "it changed"))
    observed = seen(observed, ev.FileSeen("m+a", None), failed, desired=desired)
    assert kinds(observed, desired) == ["contest"]
    for _ in range(TRIES):
        observed = seen(observed, failed, desired=desired)
    assert kinds(observed, desired) == ["take"], "what served before it is gone"


def test_nothing_is_measured_judged_or_sought_while_an_adapter_is_awaited() -> None:
    more = replace(HELD.load, adapters=(LOCAL, FETCHED))
    desired, observed = contest(HELD, replace(HELD, load=more))
    assert kinds(observed, desired) == ["contest"]
    assert kinds(seen(observed, ev.FileSeen("m@next+b", None), desired=desired), desired) == []
    spec = replace(HELD, benchmark=BenchmarkSpec(when="on_change"), preload=True)
    alone = replace(DESIRED, models={"m": spec})
    observed = served(seen(HERE, desired=alone), alone)
    assert kinds(observed, alone) == ["measure"]
    edited = replace(DESIRED, models={"m": replace(spec, load=more)})
    assert kinds(seen(observed, desired=edited), edited) == []
    tuned = replace(spec, benchmark=BenchmarkSpec(tune="apply"), tunable=("threads",))
    desired = replace(DESIRED, models={"m": tuned})
    key = key_of(tuned, observed.of("m"), observed)
    assert key is not None
    observed = seen(observed, ev.Tuned("m", Tuning(key, "", done=True)), desired=desired)
    assert "tune" not in kinds(seen(observed, ev.FileSeen("m+a", None), desired=desired), desired)


def test_what_is_newer_than_an_adapter_is_told_with_a_way_that_is_open_and_outlives_a_contest() -> None:
    held = replace(HELD, load=LoadSpec(context=64, adapters=(FETCHED,)))
    new = replace(held, load=replace(held.load, context=32))
    desired, observed = contest(held, new)
    newer = Look(look_key(pin("a")), 1.0, "b" * 40, pin("b"))
    observed = seen(observed, ev.Resolved("m+b", pin("a")), ev.UpdateSeen("m+b", newer), desired=desired)
    assert "name the newer revision of its adapter" in condition(observed, "UpToDate", held)[2]
    free = replace(held, benchmark=None)
    assert "offgrid update m+b" in condition(observed, "UpToDate", free)[2]
    observed = seen(observed, ev.Resolved("m@next+b", pin("a")), desired=desired)
    taken = seen(observed, ev.Taken("m", new), desired=replace(DESIRED, models={"m": new}))
    assert taken.of("m+b").look == newer


def test_an_old_question_that_fails_late_takes_nothing_away() -> None:
    old = replace(FETCHED, source=HubSource("o/r", "b.gguf", "v1"))
    (asked,) = adapters_of([replace(MODEL, load=LoadSpec(adapters=(old,)))]).values()
    late = ev.VerifyFailed("m+b", source_key(asked), Failure("Downloaded", "HubTimeout", "it took too long"))
    assert seen(WHOLE, late).of("m").file == WHOLE.of("m").file


def test_a_token_that_is_mended_lets_the_adapter_of_a_challenger_be_asked_for_again() -> None:
    def declared(generation: int, adapters: tuple[AdapterSpec, ...]) -> Desired:
        spec = replace(HELD, load=replace(HELD.load, adapters=adapters))
        return Desired(generation, str(generation), models={"m": spec})

    first = declared(1, ())
    refused = hold_back(first, declared(2, (FETCHED,)))
    mended = replace(FETCHED, source=replace(HubSource("o/r", "b.gguf"), token=Secret("env", "T")))
    assert reached_otherwise(refused, hold_back(refused, declared(3, (mended,)))) == ("m",)


def test_all_files_that_are_loaded_with_a_model_are_looked_at_again_with_it() -> None:
    assert beside("m", replace(MODEL.load, draft="small")) == ["m+a", "m+b", "small"]
    (start,) = (one for one in plan(DESIRED, WHOLE, 2.0).start if isinstance(one, StartWorker))
    assert sorted(start.file.sha256s) == ["a" * 64, "b" * 64, "m" * 64]
    assert [one.models for one in subjects([MODEL], WHOLE, {})] == [("m",), ("m+a",), ("m+b",)]
