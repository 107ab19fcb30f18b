"""The engine's pure parts: streamed text and control-token masking."""

from __future__ import annotations

import time
from timeit import repeat

import hypothesis.strategies as st
from hypothesis import given

from offgridd.engine.special import Masker
from offgridd.engine.text import StreamText


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


def masked_slowly(controls: list[str], text: str, stand_ins: dict[str, str]) -> str:
    """What `mask` promises, said once for each character."""

    def begins(rest: str) -> bool:
        return any(rest.startswith(t) or t.startswith(rest) for t in controls)

    return "".join(stand_ins[c] if begins(text[at:]) else c for at, c in enumerate(text))


SHORT = st.text(alphabet="<|a\n.*", max_size=5)


@given(st.lists(SHORT.filter(bool), max_size=4, unique=True), st.lists(SHORT, max_size=6).map("".join))
def test_masking_is_as_defined_also_where_control_texts_overlap(controls: list[str], text: str) -> None:
    masker = Masker({t: i for i, t in enumerate(controls)})
    stand_ins = masker.stand_ins([text])
    assert masker.mask(text, stand_ins) == masked_slowly(controls, text, stand_ins)


def test_many_control_tokens_cost_a_text_hardly_more_than_one() -> None:
    few, many = ({f"<|reserved_{i}|>": i for i in range(count)} for count in (1, 250))
    text = "<" * 20_000

    def seconds(controls: dict[str, int]) -> float:
        masker = Masker(controls)
        stand_ins = masker.stand_ins([text])
        return min(repeat(lambda: masker.mask(text, stand_ins), timer=time.thread_time, number=1, repeat=7))

    assert seconds(many) < 20 * seconds(few)
