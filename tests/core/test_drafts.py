"""A model waits for its draft's file, is loaded anew where that is another one, and is charged with it."""

from __future__ import annotations

from dataclasses import replace

from support.specs import EFFECTIVE, HEADER, HOST

from offgridd.core import events as ev
from offgridd.core.actions import StartWorker
from offgridd.core.conditions import model_conditions
from offgridd.core.desired import Desired, FileSource, LoadSpec, ModelSpec
from offgridd.core.drafts import with_drafts
from offgridd.core.errors import Failure
from offgridd.core.fit import Limits, estimate
from offgridd.core.fold import fold
from offgridd.core.keys import source_key
from offgridd.core.measuring import lost
from offgridd.core.memory import Host, charge
from offgridd.core.observed import Charge, Identity, ModelHeader, Observed, VerifiedFile
from offgridd.core.plan import obstacle, plan
from offgridd.core.readiness import is_settled
from offgridd.core.shape import Shape
from offgridd.effects.frames import load_of

LARGE = ModelSpec("large", FileSource("/large"), load=LoadSpec(context=64, draft="small"))
SMALL = ModelSpec("small", FileSource("/small"), preload=False)
BOTH = Desired(1, "d", models={"large": LARGE, "small": SMALL})
EMBEDDER = replace(HEADER, shape=Shape({"pooling_type": 1}))


def file(spec: ModelSpec, letter: str, header: ModelHeader = HEADER) -> VerifiedFile:
    return VerifiedFile(f"/{spec.name}", Identity(1, 2, 3, ord(letter)), letter * 64, header, source_key(spec))


def seen(observed: Observed, *happened: ev.Event, desired: Desired = BOTH) -> Observed:
    return with_drafts(desired, fold(observed, happened, 1.0))


def starts(observed: Observed, desired: Desired = BOTH) -> list[StartWorker]:
    return [action for action in plan(desired, observed, 2.0).start if isinstance(action, StartWorker)]


def loaded(observed: Observed) -> tuple[str, str]:
    found = next(c for c in model_conditions(LARGE, observed.of("large"), observed) if c.type == "Loaded")
    return found.reason, found.message


HERE = seen(Observed(host=HOST), ev.Verified("large", file(LARGE, "a")))


def served(observed: Observed) -> Observed:
    """Its worker is there."""
    (start,) = starts(observed)
    return seen(
        observed,
        ev.WorkerStarted("large", 1, 1, start.key, LARGE.cache_ram, Charge(1)),
        ev.WorkerReady("large", 1, EFFECTIVE),
    )


def test_it_waits_for_the_file_of_its_draft_and_gets_it() -> None:
    assert {action.model for action in plan(BOTH, HERE, 2.0).start} == {"small"}, "verified, not preloaded"
    assert loaded(HERE) == ("WaitsForDraft", "its draft small is not there yet")
    assert not is_settled(LARGE, HERE)
    assert is_settled(LARGE, seen(HERE, ev.NetworkAwaited("small"))), "a first download holds up no start"
    (start,) = starts(seen(HERE, ev.Verified("small", file(SMALL, "b"))))
    frame = load_of(start)
    assert [path for path, _ in frame.files] == ["/large"]
    assert [path for path, _ in frame.draft] == ["/small"]
    assert sorted(start.file.sha256s) == ["a" * 64, "b" * 64]


def test_what_serves_goes_on_until_the_other_file_is_there() -> None:
    observed = served(seen(HERE, ev.Verified("small", file(SMALL, "b"))))
    assert loaded(observed)[0] == "Serving"
    assert not plan(BOTH, observed, 2.0).start
    gone = seen(observed, ev.FileSeen("small", None))
    assert {action.model for action in plan(BOTH, gone, 2.0).start} == {"small"}
    assert "still serves" in loaded(gone)[1]
    assert not starts(seen(gone, ev.Verified("small", file(SMALL, "b")))), "the same bytes"
    (start,) = starts(seen(gone, ev.Verified("small", file(SMALL, "c"))))
    assert start.file.draft is not None
    assert start.file.draft.sha256 == "c" * 64


def test_without_a_draft_it_is_another_worker_and_by_another_name_the_same() -> None:
    observed = served(seen(HERE, ev.Verified("small", file(SMALL, "b"))))
    bare = replace(BOTH, models={**BOTH.models, "large": replace(LARGE, load=LoadSpec(context=64))})
    (start,) = starts(seen(observed, desired=bare), bare)
    assert load_of(start).draft == ()
    other = replace(SMALL, name="tiny")
    renamed = replace(LARGE, load=replace(LARGE.load, draft="tiny"))
    desired = replace(BOTH, models={"large": renamed, "tiny": other})
    assert not starts(seen(observed, ev.Verified("tiny", file(SMALL, "b")), desired=desired), desired)


def test_a_draft_that_does_not_come_is_said() -> None:
    failure = Failure("Verified", "Truncated", "its end is missing")
    observed = seen(HERE, ev.VerifyFailed("small", source_key(SMALL), failure))
    reason, message = loaded(observed)
    assert (reason, message) == (
        "WaitsForDraft",
        "cannot load it without its draft small: Truncated: its end is missing",
    )
    assert is_settled(LARGE, observed)
    assert obstacle(LARGE, seen(observed, ev.Verified("small", file(SMALL, "b")))) is None
    alone = Desired(2, "e", models={"large": LARGE})
    assert "not declared any more" in loaded(seen(HERE, desired=alone))[1]


def test_what_kept_a_draft_from_it_says_nothing_once_it_has_none() -> None:
    failure = Failure("Verified", "Truncated", "its end is missing")
    observed = seen(HERE, ev.VerifyFailed("small", source_key(SMALL), failure))
    bare = replace(LARGE, load=LoadSpec(context=64))
    desired = replace(BOTH, models={**BOTH.models, "large": bare})
    assert obstacle(LARGE, observed) is not None
    assert obstacle(bare, seen(observed, desired=desired)) is None


def test_what_makes_no_text_is_no_draft_and_has_none() -> None:
    observed = seen(HERE, ev.Verified("small", file(SMALL, "b", EMBEDDER)))
    assert loaded(observed)[0] == "DraftUnsuitable"
    assert not starts(observed)
    observed = seen(HERE, ev.Verified("large", file(LARGE, "a", EMBEDDER)), ev.Verified("small", file(SMALL, "b")))
    assert "the model makes no text" in loaded(observed)[1]


def test_the_draft_is_charged_with_its_weights_and_cells() -> None:
    header = replace(
        HEADER, shape=Shape({"attention.head_count": 2, "attention.head_count_kv": 2, "feed_forward_length": 64})
    )
    host, small = Host(frozenset(), Limits(None)), replace(header, tensor_bytes=500, block_count=3)
    alone = file(LARGE, "a", header)
    with_draft = replace(alone, draft=file(SMALL, "b", small))
    costs = [charge(one.key, LARGE, one, host) for one in (alone, with_draft)]
    found = estimate(small, replace(LARGE.load, context=64), frozenset(), 0)
    assert found is not None
    assert costs[1].own - costs[0].own == 500 + found.kv + found.compute
    assert (costs[1].shared, costs[1].file) == (costs[0].shared, costs[0].file)
    gpu = [charge(one.key, LARGE, one, replace(host, gpu=True)) for one in (alone, with_draft)]
    assert dict(gpu[1].gpu)[0] - dict(gpu[0].gpu)[0] == costs[1].own - costs[0].own, "it lies where the model lies"
    strange = replace(alone, draft=file(SMALL, "c", replace(small, architecture="strange")))
    assert charge(strange.key, LARGE, strange, host).own == costs[0].own + 500


def test_what_is_held_back_goes_on_with_a_draft_that_was_removed_and_is_lost_without() -> None:
    both = seen(HERE, ev.Verified("small", file(SMALL, "b")))
    alone = Desired(2, "e", models={"large": LARGE})
    later = with_drafts(alone, served(both))
    assert later.of("large").file == served(both).of("large").file
    assert plan(alone, later, 2.0).start == plan(BOTH, served(both), 2.0).start == ()
    assert not lost(LARGE, later.of("large"), later.engine)
    without = with_drafts(alone, HERE)
    assert lost(LARGE, without.of("large"), without.engine), "nothing of it can be loaded again"
