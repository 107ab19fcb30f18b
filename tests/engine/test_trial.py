"""Measurements in a worker: exact lengths, times in order, nothing kept, and requests go first."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from engine.test_serve import Worker, alone, worker

from offgridd.engine import wire
from offgridd.engine.fake import END, FakeVocab
from offgridd.engine.sequence import Rows
from offgridd.engine.trial import Trial


def measured(w: Worker, asked: wire.Bench) -> wire.Measured | wire.Refused:
    w.send(asked)
    while True:
        frame = w.receive()
        if isinstance(frame, wire.Measured | wire.Refused):
            assert frame.id == asked.id
            return frame


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("depth", "count"), [(0, 1), (300, 1), (0, 4), (200, 3)])
def test_each_sequence_has_its_tokens_in_order(depth: int, count: int, apart: bool) -> None:
    with worker(apart=apart) as w:
        found = measured(w, wire.Bench(1, 100, 20, depth, count))
        assert isinstance(found, wire.Measured)
        assert (found.why, len(found.lanes), found.threads) == ("", count, 1)
        for lane in found.lanes:
            times = [lane.prompt, *lane.tokens]
            assert (len(lane.tokens), times, times[0] >= 0) == (20, sorted(times), True)
        assert max(lane.tokens[0] for lane in found.lanes) <= min(lane.tokens[1] for lane in found.lanes)


def test_a_depth_alone_times_the_answer() -> None:
    with worker() as w:
        found = measured(w, wire.Bench(1, 0, 20, 300))
        assert isinstance(found, wire.Measured)
        assert len(found.lanes[0].tokens) == 20
        assert found.lanes[0].prompt == found.lanes[0].tokens[0]


def test_nothing_of_it_is_kept_or_counted() -> None:
    with worker() as w:
        measured(w, wire.Bench(1, 400, 50))
        w.ask(2, "hello", 10)
        stats: list[wire.Stats] = []
        while 2 not in w.ends:
            frame = w.receive()
            if isinstance(frame, wire.Finish):
                w.ends[frame.id] = frame
            stats += [frame] if isinstance(frame, wire.Stats) else []
        stats += [frame for frame in [w.receive()] if isinstance(frame, wire.Stats)]
        assert stats[0].now.cache_tokens == 0
        assert sum(one.spreads["first_token"].counts != (0,) * 14 for one in stats) == 1
        assert sum(one.prompt_tokens for one in stats) < 100


def test_a_request_goes_first_and_gets_its_own_answer() -> None:
    with worker(context=8192) as w:
        w.send(wire.Bench(1, 4000, 4000, 0, 4))
        w.ask(2, "hello", 30)
        broken = None
        while 2 not in w.ends:
            frame = w.receive()
            if isinstance(frame, wire.Measured):
                broken = frame
            elif isinstance(frame, wire.Tokens):
                w.text[2] = w.text.get(2, "") + "".join(item.text for item in frame.items)
            elif isinstance(frame, wire.Finish):
                w.ends[2] = frame
        assert broken == wire.Measured(1, (), 1, broken.own_peak_bytes, broken.mapped_bytes, "yielded")  # type: ignore[union-attr]
        assert w.text[2] == alone("hello", 30)
        assert isinstance(measured(w, wire.Bench(3, 10, 10)), wire.Measured)


def test_its_sequences_are_no_requests_that_run_or_wait() -> None:
    with worker(context=65536) as w:
        w.send(wire.Bench(1, 30_000, 30_000, 0, 4))
        while not isinstance(frame := w.receive(), wire.Stats) or not frame.now.cells_used:
            assert not isinstance(frame, wire.Measured), "it is long enough to be seen"
        assert (frame.now.running, frame.now.waiting, frame.now.parked) == (0, 0, 0)
        w.send(wire.Abort(1))
        w.ask(2, "long", 60_000)
        while not isinstance(frame := w.receive(), wire.Stats) or not frame.now.running:
            pass


def test_while_requests_run_it_is_refused() -> None:
    with worker(context=8192) as w:
        w.ask(1, "long", 7000)
        while not isinstance(w.receive(), wire.Admitted):
            pass
        found = measured(w, wire.Bench(2, 10, 10))
        assert isinstance(found, wire.Refused)
        assert (found.status, found.code) == (409, "busy")


def test_it_can_be_called_off() -> None:
    with worker(context=8192) as w:
        w.send(wire.Bench(1, 4000, 4000, 0, 4))
        w.send(wire.Abort(1))
        while not isinstance(frame := w.receive(), wire.Measured):
            pass
        assert (frame.why, frame.lanes) == ("aborted", ())
        assert isinstance(measured(w, wire.Bench(2, 10, 10)), wire.Measured)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (wire.Bench(1, 1000, 100), "context_length_exceeded"),
        (wire.Bench(1, 500, 100, 500), "context_length_exceeded"),
        (wire.Bench(1, 1024, 0), "context_length_exceeded"),
        (wire.Bench(1, 0, 10), "invalid_value"),
        (wire.Bench(1, 256, 0, 0, 4), "concurrency_exceeded"),
        (wire.Bench(1, 10, 10, 0, 5), "concurrency_exceeded"),
        (wire.Bench(1, 800, 100, 0, 2), "concurrency_exceeded"),
    ],
)
def test_what_does_not_fit_is_refused(asked: wire.Bench, code: str) -> None:
    with worker(context=1024, parallel=4, cells=1024) as w:
        found = measured(w, asked)
        assert isinstance(found, wire.Refused)
        assert (found.status, found.code) == (400, code)


@pytest.mark.parametrize(
    "asked",
    [wire.Bench(1, 1023, 0), wire.Bench(1, 255, 0, 0, 4), wire.Bench(1, 0, 2, 1), wire.Bench(1, 100, 56, 100, 4)],
)
def test_what_just_fits_is_measured(asked: wire.Bench) -> None:
    """The first token is computed also where none is asked for."""
    with worker(context=1024, parallel=4, cells=1024) as w:
        found = measured(w, asked)
        assert isinstance(found, wire.Measured)
        assert [len(lane.tokens) for lane in found.lanes] == [max(1, asked.output_tokens)] * asked.count


@pytest.mark.parametrize("slots", [100])
def test_more_sequences_than_one_client_may_queue(slots: int) -> None:
    with worker(context=256, parallel=slots) as w:
        found = measured(w, wire.Bench(1, 10, 10, 0, slots))
        assert isinstance(found, wire.Measured)
        assert len(found.lanes) == slots


def test_sequences_go_from_depth_to_prompt_to_answer_together() -> None:
    trial = Trial(wire.Bench(1, 100, 2, 50, 2), FakeVocab(), 10.0)
    one, two = trial.sequences
    row = np.zeros(FakeVocab.size, np.float32)
    row[END] = 1
    assert (len(one.tokens), len(two.tokens)) == (50, 50)
    trial.decoded([Rows(one, 0, 50, sample=True)], 10.0)
    assert not trial.token(one, row, 20.0)
    assert (one.left, len(one.tokens)) == (50, 50), "it waits; nobody has told it that its rows are done"
    trial.decoded([Rows(two, 0, 50, sample=True)], 20.0)
    assert not trial.token(two, row, 30.0)
    assert (len(one.tokens), len(two.tokens), one.prompt, two.prompt) == (150, 150, 150, 150)
    trial.decoded([Rows(one, 50, 100, sample=True)], 30.0)
    assert not trial.token(one, row, 35.0)
    assert len(one.tokens) == 150
    trial.decoded([Rows(two, 50, 100, sample=True)], 35.0)
    assert not trial.token(two, row, 40.0)
    assert (len(one.tokens), len(two.tokens)) == (151, 151)
    trial.decoded([Rows(one, 150, 1, sample=True), Rows(two, 150, 1, sample=True)], 40.0)
    assert (trial.token(one, row, 41.0), trial.token(two, row, 41.0)) == (True, True)
    assert END not in one.tokens + two.tokens
    assert trial.done
    assert trial.lanes() == (wire.Lane(20.0, (25.0, 31.0)), wire.Lane(25.0, (30.0, 31.0)))


def test_another_seed_is_another_prompt() -> None:
    prompts = [
        tuple(s.tokens) for seed in (1, 2) for s in Trial(wire.Bench(1, 50, 1, 0, 2, seed), FakeVocab(), 0).sequences
    ]
    assert all(a != b for a, b in itertools.combinations(prompts, 2))
