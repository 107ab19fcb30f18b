"""An edit of `cache.ram` or `cache.disk` alone tells the worker that serves, once, and does nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from offgridd.core import events as ev
from offgridd.core.actions import LimitCache, StartWorker
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec, Placement, ServerSpec
from offgridd.core.edits import changes, hold_back
from offgridd.core.fold import fold
from offgridd.core.keys import load_key, shelf_key, source_key
from offgridd.core.observed import Effective, Identity, ModelFacts, ModelHeader, Observed, VerifiedFile, Worker
from offgridd.core.plan import plan

A = ModelSpec("a", FileSource("/m/a.gguf"), cache_ram=100)
HEADER = ModelHeader("llama", "tiny", 0, 4096, 1, 32, 2, 288, 12, 1000, True)
FILE = VerifiedFile("/m/a.gguf", Identity(1, 1, 1, 1), "0" * 64, HEADER, source_key(A))
SIZES = st.integers(0, 1 << 40)


def desired(spec: ModelSpec, *, suspend: bool = False) -> Desired:
    return Desired(2, "2", ServerSpec(suspend=suspend), {"a": spec})


def serving(told: int = 100, *, ready: bool = True) -> Observed:
    effective = Effective(4096, 4, 4096, 1, None)
    worker = Worker(7, load_key(A, FILE.sha256, "e"), 100, ready=ready, cache_ram=told, effective=effective)
    return Observed({"a": ModelFacts(FILE, (worker,))}, engine="e")


@given(SIZES, SIZES)
def test_the_worker_is_told_once_and_nothing_else_happens(told: int, wanted: int) -> None:
    observed, want = serving(told), desired(replace(A, cache_ram=wanted))
    made = plan(want, observed, 0.0)
    limit = LimitCache("a", 7, wanted)
    assert (made.start, made.cancel) == (() if told == wanted else (limit,), ())
    for action in made.start:
        observed = fold(observed, [ev.CacheLimited(action.model, limit.worker, limit.bytes)], 0.0)
    assert plan(want, observed, 0.0).empty


def test_the_edit_is_live_and_the_load_key_is_the_same() -> None:
    edited = replace(A, cache_ram=5)
    assert [change.kind for change in changes(desired(A), desired(edited))] == ["live"]
    assert load_key(A, "0" * 64, "e") == load_key(edited, "0" * 64, "e")


KEPT = replace(A, cache_disk=1000, load=LoadSpec(persist=True))


def test_the_size_on_disk_is_live_too() -> None:
    edited = replace(KEPT, cache_disk=5)
    assert [change.kind for change in changes(desired(KEPT), desired(edited))] == ["live"]
    (start,) = plan(desired(KEPT), Observed({"a": ModelFacts(FILE)}, engine="e"), 0.0).start
    assert isinstance(start, StartWorker)
    assert (start.cache_disk, bool(start.shelf)) == (1000, True)
    done = [
        ev.WorkerStarted("a", 8, 101, start.key, start.cache_ram, cache_disk=start.cache_disk),
        ev.WorkerReady("a", 8, Effective(64, 4, 256, 1, None)),
    ]
    observed = fold(Observed({"a": ModelFacts(FILE)}, engine="e"), done, 0.0)
    assert plan(desired(KEPT), observed, 0.0).empty
    assert plan(desired(edited), observed, 0.0).start == (LimitCache("a", 8, 100, 5),)
    observed = fold(observed, [ev.CacheLimited("a", 8, 100, 5)], 0.0)
    assert plan(desired(edited), observed, 0.0).empty


def test_where_nothing_is_kept_on_disk_its_size_is_no_matter() -> None:
    (start,) = plan(desired(replace(A, cache_disk=5)), Observed({"a": ModelFacts(FILE)}, engine="e"), 0.0).start
    assert isinstance(start, StartWorker)
    assert (start.cache_disk, start.shelf) == (0, "")
    assert plan(desired(replace(A, cache_disk=5)), serving(), 0.0).empty


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"chat_template": "x"}, True),
        ({"threads": 3}, True),
        ({"lookup": True}, True),
        ({"sandbox": "required"}, True),
        ({"context": 64}, False),
        ({"deterministic": True}, False),
        ({"placement": Placement(cache_type_k="q8_0")}, False),
        ({"placement": Placement(flash_attention=False)}, False),
    ],
)
def test_what_was_saved_is_of_use_as_long_as_states_are_alike(change: dict[str, Any], same: bool) -> None:
    edited = replace(KEPT, load=replace(KEPT.load, **change))
    assert (shelf_key(edited, "0" * 64, "e") == shelf_key(KEPT, "0" * 64, "e")) == same
    assert load_key(edited, "0" * 64, "e") != load_key(KEPT, "0" * 64, "e")
    assert shelf_key(KEPT, "1" * 64, "e") != shelf_key(KEPT, "0" * 64, "e") != shelf_key(KEPT, "0" * 64, "f")


def test_one_that_still_loads_is_told_when_it_is_ready() -> None:
    observed = replace(serving(ready=False), running={"a": load_key(A, FILE.sha256, "e")})
    want = desired(replace(A, cache_ram=5))
    assert plan(want, observed, 0.0).empty
    done = [ev.WorkerReady("a", 7, Effective(4096, 4, 4096, 1, None)), ev.ActionEnded("a")]
    assert plan(want, fold(observed, done, 0.0), 0.0).start == (LimitCache("a", 7, 5),)


def test_a_new_worker_begins_with_what_is_declared() -> None:
    edited = replace(A, cache_ram=5, load=LoadSpec(context=64))
    (start,) = plan(desired(edited), serving(), 0.0).start
    assert isinstance(start, StartWorker)
    assert start.cache_ram == 5
    observed = fold(serving(), [ev.WorkerStarted("a", 8, 101, start.key, start.cache_ram)], 0.0)
    observed = fold(observed, [ev.WorkerReady("a", 8, Effective(64, 4, 256, 1, None))], 0.0)
    assert not any(isinstance(action, LimitCache) for action in plan(desired(edited), observed, 0.0).start)


def test_one_that_is_told_to_stop_is_told_nothing_more() -> None:
    stopping = fold(serving(), [ev.WorkerStopping("a", 7)], 0.0)
    made = plan(desired(replace(A, cache_ram=5)), stopping, 0.0)
    assert not any(isinstance(action, LimitCache) for action in made.start)


def test_what_is_suspended_is_left_alone() -> None:
    edited = replace(A, cache_ram=5)
    for after in (desired(replace(edited, suspend=True)), desired(edited, suspend=True)):
        held = hold_back(Desired(1, "1", models={"a": A}), after)
        assert held.held == ("a",)
        assert plan(held, serving(), 0.0).empty
    assert plan(desired(replace(edited, suspend=True)), serving(), 0.0).empty, "also where it is so from the start"
