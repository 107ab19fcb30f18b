"""What an event makes of the facts of a model."""

from __future__ import annotations

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.fold import fold, forget
from offgridd.core.observed import Eviction, ModelFacts, Observed, Worker


def after(observed: Observed, event: ev.Event, now: float) -> Observed:
    return fold(observed, [event], now)


def test_who_made_room_waits_anew_and_who_waits_is_not_put_back() -> None:
    seen = after(Observed({"a": ModelFacts()}), ev.Demanded("a"), 5.0)
    seen = after(seen, ev.Demanded("a"), 7.0)
    assert (seen.of("a").demanded, seen.of("a").asked_at) == (True, 5.0)
    seen = after(seen, ev.WorkerStarted("a", 1, 99, "k", 0), 8.0)
    seen = after(seen, ev.WorkerStopping("a", 1, "evicted", "b (priority 0)"), 9.0)
    seen = after(seen, ev.Demanded("a"), 10.0)
    assert (seen.of("a").demanded, seen.of("a").asked_at) == (True, 10.0)


def test_retry_does_not_have_one_that_made_room_wait() -> None:
    facts = ModelFacts(workers=(Worker(1, "k", 99),), evicted=Eviction(5.0, "b (priority 0)"))
    assert after(Observed({"a": facts}), ev.Reconsidered("a"), 6.0).of("a").evicted is None


def test_a_request_that_waited_does_not_count_against_a_model_that_is_added_again() -> None:
    seen = after(Observed(), ev.Used("a", 1), 1.0)
    seen = forget(seen, Desired())  # it was removed while the request waited
    seen = after(seen, ev.Used("a", 1), 2.0)  # of the one that was added again
    seen = after(seen, ev.Used("a", -1), 3.0)  # the first one has heard of it
    assert seen.of("a").uses == 1
    seen = after(seen, ev.Used("a", -1), 4.0)
    assert not forget(seen, Desired()).models
