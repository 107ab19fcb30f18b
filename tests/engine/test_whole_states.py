"""Models whose memory can not be taken apart: a recurrent one, of which only whole states are kept, and one with a
sliding window."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.serving import Got, Serving, serving
from support.tinymamba import SPEC, write_mamba, write_windowed
from support.tinymodel import vocabulary

from offgridd.engine import wire
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import Memory, Part
from offgridd.engine.prefix import Piece

# Letters alone: bytes of no text would not come back as the tokens that they were.
NO_LETTERS = tuple((i, -1000.0) for i, token in enumerate(vocabulary(SPEC)[0]) if not ("a" <= token <= "z"))
LETTERS = wire.SamplingParams(temperature=0, logit_bias=NO_LETTERS)
COMMON = "it was the same for all of them "


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mamba(tmp_path_factory.mktemp("mamba") / "mamba.gguf")


@pytest.fixture(scope="module")
def fresh(mamba: Path) -> Iterator[Serving]:
    """A worker that keeps nothing, asked one thing at a time."""
    with serving(mamba, parallel=1, cache=0) as worker:
        yield worker


def alike(one: Got, other: Got, within: float = 1e-3) -> None:
    """Other shapes of a decode round differently, in the last digits alone."""
    assert one.text == other.text
    found, wanted = ([p.logprob for p in got.logprobs] for got in (one, other))
    assert found == pytest.approx(wanted, abs=within)


def test_its_states_are_whole(mamba: Path) -> None:
    model = Llama(str(mamba), Settings(512, 1, parallel=2))
    assert model.memory is Memory.WHOLE
    prompt = model.vocab.tokenize("the cat sat on a mat")
    model.decode([Part(0, 0, prompt, True)])
    state = model.save(0, 0, len(prompt))
    model.restore(1, [Piece(state, 0, len(prompt))])
    rows = []
    for slot in (0, 1):
        model.decode([Part(slot, len(prompt), prompt[:1], True)])
        rows.append(model.logits(0).tobytes())
    assert rows[0] == rows[1]


def test_the_model_tells_an_early_token_from_another(fresh: Serving) -> None:
    """What the other tests lean on."""
    one, other = (fresh.answers(first + COMMON * 4, sampling=LETTERS) for first in "ab")
    assert [p.logprob for p in one.logprobs] != pytest.approx([p.logprob for p in other.logprobs], abs=1e-3)


def test_those_that_begin_alike_give_at_once_what_they_give_alone(mamba: Path, fresh: Serving) -> None:
    texts = [COMMON * (1 + i % 5) + "and then " * (i % 3) + str(i) for i in range(14)]
    with serving(mamba) as worker:
        assert worker.loaded.memory == Memory.WHOLE.value
        for _ in range(2):
            found = worker.wait(*[worker.ask(text, sampling=LETTERS) for text in texts])
            for text, got in zip(texts, found, strict=True):
                alike(got, fresh.answers(text, sampling=LETTERS))


def test_a_second_turn_goes_on_from_where_the_first_ended(mamba: Path, fresh: Serving) -> None:
    with serving(mamba) as worker:
        first = worker.answers(COMMON, sampling=LETTERS, count=40)
        assert isinstance(first.end, wire.Finish)
        assert (first.end.completion_tokens, first.text.isalpha()) == (40, True)
        second = worker.answers(COMMON, first.text, "and you", sampling=LETTERS)
        assert second.cached == first.end.prompt_tokens + 39
        alike(second, fresh.answers(COMMON, first.text, "and you", sampling=LETTERS))
        again = worker.answers(COMMON, first.text, "not you", sampling=LETTERS)
        assert again.cached == first.end.prompt_tokens + 39, "the second did not use the first one's state up"
        alike(again, fresh.answers(COMMON, first.text, "not you", sampling=LETTERS))


def test_one_token_of_another_answer_is_no_beginning(mamba: Path, fresh: Serving) -> None:
    with serving(mamba) as worker:
        first = worker.answers(COMMON, sampling=LETTERS, count=40)
        other = "".join("b" if c == "a" else "a" for c in first.text)
        second = worker.answers(COMMON, other, "and you", sampling=LETTERS)
        assert second.cached == 0
        alike(second, fresh.answers(COMMON, other, "and you", sampling=LETTERS))


def test_who_leaves_in_the_middle_leaves_the_next_answers_right(mamba: Path, fresh: Serving) -> None:
    rng = random.Random(7)
    with serving(mamba, parallel=3) as worker:
        for i in range(25):
            text = COMMON * rng.randint(1, 25) + str(i % 4)
            gone = [worker.ask(text, sampling=LETTERS, count=100) for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.5:
                worker.begun(gone[0])
            for request in gone:
                worker.abort(request)
            alike(worker.answers(text, sampling=LETTERS, count=10), fresh.answers(text, sampling=LETTERS, count=10))
            worker.wait(*gone)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_windowed(tmp_path_factory.mktemp("windowed") / "windowed.gguf")


def asked_alone(path: Path, texts: list[str]) -> list[Got]:
    with serving(path, parallel=1, cache=0) as worker:
        return [worker.answers(text, count=20) for text in texts]


def test_with_a_window_those_that_begin_alike_give_at_once_what_they_give_alone(windowed: Path) -> None:
    texts = [COMMON * (1 + i % 6) + str(i) for i in range(8)]
    with serving(windowed, cache=0) as worker:
        found = worker.wait(*[worker.ask(text, count=20) for text in texts])
    for got, want in zip(found, asked_alone(windowed, texts), strict=True):
        alike(got, want, within=0.02)


def test_with_a_window_what_was_kept_whole_gives_what_was_computed(windowed: Path) -> None:
    model = Llama(str(windowed), Settings(512, 1, parallel=4))
    prompt = [3 + (i * 7919) % 280 for i in range(400)]
    model.decode([Part(0, 0, prompt, True)])
    wanted = model.logits(0).copy()
    assert model.memory is Memory.WHOLE, "a saved state has its last window only: no beginning of it is right"
    model.cut(0, 0)
    model.decode([Part(0, 0, prompt[:250], False)])
    model.restore(1, [Piece(model.save(0, 0, 250), 0, 250)])
    model.decode([Part(1, 250, prompt[250:], True)])
    assert np.abs(wanted - model.logits(0)).max() < 0.01


def test_with_a_window_what_was_kept_gives_what_a_fresh_worker_gives(windowed: Path) -> None:
    texts = [COMMON * (1 + i % 6) + str(i) for i in range(8)]
    with serving(windowed) as worker:
        found = [worker.answers(text, count=20) for text in texts]
    for got, want in zip(found, asked_alone(windowed, texts), strict=True):
        alike(got, want, within=0.02)
