"""The engine's pure parts: the scheduler seam, streamed text, control-token masking."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from offgridd.engine.batch import GRID, Batch, Sequence
from offgridd.engine.special import Masker
from offgridd.engine.text import StreamText


def run_all(batch: Batch) -> list[int]:
    """The order in which requests finish when each wants one token."""
    order: list[int] = []
    while (step := batch.next()) is not None:
        assert 1 <= len(step.tokens) <= batch.chunk
        assert len(step.tokens) % GRID == 0 or step.sample, "only a prompt's rest leaves the grid"
        batch.decoded(step)
        if step.sample:
            order.append(step.sequence.id)
            batch.finish(step.sequence)
    return order


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1500)), max_size=30))
def test_each_request_ends_once_and_no_client_waits_for_anothers_second(asked: list[tuple[str, int]]) -> None:
    batch = Batch(limit=20)
    taken = [i for i, (c, n) in enumerate(asked) if batch.submit(Sequence(i, c, list(range(n)), n, 1))]
    assert len(taken) == min(20, len(asked))
    clients = {i: asked[i][0] for i in taken}
    order = run_all(batch)
    assert sorted(order) == taken
    firsts = [clients[i] for i in order[: len(set(clients.values()))]]
    assert len(set(firsts)) == len(firsts), "every client is served once before one is served twice"
    assert len(batch) == 0


def test_abort_takes_a_request_out_wherever_it_is() -> None:
    batch = Batch()
    for i in range(3):
        batch.submit(Sequence(i, "a", [1], 1, 1))
    batch.next()
    assert batch.abort(0) is not None
    assert batch.abort(2) is not None
    assert batch.abort(9) is None
    assert run_all(batch) == [1]


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_streamed_text_is_the_text_before_the_first_stop(text: str, stops: list[str], size: int) -> None:
    stream, raw, got = StreamText(tuple(stops)), text.encode("utf-8", "replace"), ""
    text = raw.decode()
    for at in range(0, len(raw), size):
        if stream.push(raw[at : at + size]):
            break
        got += stream.take()
    stream.push(b"", last=True)
    got += stream.take()
    assert not any(s in got for s in stops)
    assert text.startswith(got)
    if not any(s in text for s in stops):
        assert got == text


CONTROLS = {"<|im_start|>": 1, "<|im_end|>": 2, "</s>": 3}


@given(st.lists(st.sampled_from(["<|im_", "start|>", "<|im_start|>", "</s>", "<", "hi", "\ue000"]), max_size=8))
def test_no_text_of_a_request_becomes_a_control_token(pieces: list[str]) -> None:
    masker = Masker(CONTROLS)
    stand_ins = masker.stand_ins(pieces)
    body = "".join(masker.mask(p, stand_ins) for p in pieces)
    parts = masker.split(f"<|im_start|>{body}<|im_end|>", stand_ins)
    assert [p for p in parts if isinstance(p, int)] == [1, 2]
    assert "".join(p for p in parts if isinstance(p, str)) == "".join(pieces)
