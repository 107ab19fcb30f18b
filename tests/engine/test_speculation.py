"""Guesses on the real model: with `deterministic` the same bits as without, else the checking decode chooses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.rig import FILE_PATH
from support.serving import Serving, serving

from offgridd.engine import wire

SONG = (
    "The lighthouse keeper wrote in his book that the sea was calm and the ships were few, and that nobody came. " * 2
)
COPY = f"Repeat this text word for word: {SONG}"
STORY = "Tell a story of a baker."


@pytest.fixture(scope="module")
def exact() -> Iterator[Serving]:
    with serving(FILE_PATH, threads=1, deterministic=True, speculative=True) as worker:
        yield worker


@pytest.fixture(scope="module")
def plain() -> Iterator[Serving]:
    with serving(FILE_PATH, threads=1, deterministic=True) as worker:
        yield worker


@pytest.fixture(scope="module")
def default() -> Iterator[Serving]:
    with serving(FILE_PATH, threads=1, speculative=True) as worker:
        yield worker


@pytest.mark.parametrize("text", [COPY, STORY])
@pytest.mark.parametrize(
    "sampling",
    [
        wire.SamplingParams(temperature=0),
        wire.SamplingParams(temperature=0.7, seed=5),
        wire.SamplingParams(temperature=0.3, top_k=40, top_p=0.9, repeat_penalty=1.05, seed=6),
    ],
)
def test_deterministic_answers_are_the_same_with_guesses(
    exact: Serving, plain: Serving, text: str, sampling: wire.SamplingParams
) -> None:
    asked = {"count": 60, "sampling": sampling, "logprobs": 2}
    assert exact.answers(text, **asked).answer == plain.answers(text, **asked).answer


def test_the_same_beside_others_and_stopped_half_way(exact: Serving, plain: Serving) -> None:
    asked = {"count": 40, "logprobs": 1}
    wanted = [plain.answers(text, **asked).answer for text in (COPY, STORY, COPY + " Now!")]
    numbers = [exact.ask(text, **asked) for text in (COPY, STORY, COPY + " Now!")]
    left = exact.ask(COPY, count=200)
    exact.begun(left)
    exact.abort(left)
    assert [got.answer for got in exact.wait(*numbers)] == wanted
    assert exact.answers(COPY, **asked).answer == wanted[0]


def test_guesses_are_made_and_held(default: Serving) -> None:
    endless = wire.SamplingParams(temperature=0, logit_bias=((0, -100.0), (2, -100.0), (4, -100.0)))
    got = default.answers(COPY, count=80, logprobs=1, sampling=endless)
    assert default.rested() is not None
    assert default.guessed >= default.held > 0, "how many depends on how long decodes take here and now"
    assert default.steps < 79, "of 80 tokens some came several at once"
    for one in got.logprobs:  # greedy: what was chosen is the likeliest of its own row, but for an end
        assert one.logprob == one.top[0][1] or not one.top[0][0]
    assert len(got.logprobs) == 80
