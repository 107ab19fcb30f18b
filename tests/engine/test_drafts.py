"""Drafts on real models: what is said stays the same, a good one saves decodes, an unsuitable one is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.lookalikes import lookalike
from support.rig import FILE_PATH
from support.serving import GREEDY, Serving, refused, serving, whole
from support.tinymamba import write_mamba
from support.tinymodel import Spec, model, vocabulary

from offgridd.engine import wire
from offgridd.engine.draft import Draft, difference
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import Part
from offgridd.engine.sequence import Sequence

SMALL = Spec(embedding=256, heads=4, feed_forward=512)
LARGE = Spec(embedding=256, heads=4, feed_forward=512, layers=25, idle=24)  # says what the small one says
SIZE = len(vocabulary(SMALL)[0])
ENDLESS = wire.SamplingParams(temperature=0, logit_bias=((2, -100.0), (SIZE - 2, -100.0), (SIZE - 1, -100.0)))
STORY = "Tell a story of a baker."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drafts")
    (made / "small.gguf").write_bytes(model(spec=SMALL))
    (made / "large.gguf").write_bytes(model(spec=LARGE))
    return made


@pytest.fixture(scope="module")
def fool(folder: Path) -> Path:
    """It has SmolLM2's tokens, and no idea of them."""
    return lookalike(folder / "fool.gguf", FILE_PATH, Spec(embedding=16))


@pytest.fixture(scope="module")
def exact(fool: Path) -> Iterator[Serving]:
    with serving(FILE_PATH, threads=1, deterministic=True, draft=whole(fool)) as worker:
        yield worker


@pytest.fixture(scope="module")
def plain() -> Iterator[Serving]:
    with serving(FILE_PATH, threads=1, deterministic=True) as worker:
        yield worker


@pytest.mark.parametrize(
    "sampling", [GREEDY, wire.SamplingParams(temperature=0.7, top_p=0.9, repeat_penalty=1.05, seed=5)]
)
def test_deterministic_answers_are_the_same_with_a_draft(
    exact: Serving, plain: Serving, sampling: wire.SamplingParams
) -> None:
    asked = {"count": 40, "sampling": sampling, "logprobs": 2}
    assert exact.answers(STORY, **asked).answer == plain.answers(STORY, **asked).answer
    exact.rested()
    assert exact.guessed > exact.held, "it was asked, and was wrong"


def test_the_same_beside_others_and_stopped_half_way(exact: Serving, plain: Serving) -> None:
    texts, asked = (STORY, "What is a sieve?", STORY + " Now!"), {"count": 25, "logprobs": 1}
    wanted = [plain.answers(text, **asked).answer for text in texts]
    numbers = [exact.ask(text, **asked) for text in texts]
    left = exact.ask("Count to a hundred.", count=200)
    exact.begun(left)
    exact.abort(left)
    assert [got.answer for got in exact.wait(*numbers)] == wanted


def test_a_good_draft_saves_decodes(folder: Path) -> None:
    with serving(folder / "large.gguf") as alone:
        wanted = alone.answers("hello", count=150, sampling=ENDLESS).answer
        assert wanted[3] == 150
    with serving(folder / "large.gguf", draft=whole(folder / "small.gguf")) as worker:
        assert worker.answers("hello", count=150, sampling=ENDLESS).text == wanted[0]
        worker.rested()
        assert 0 < worker.steps < 130, "of 150 tokens many came several at once"
        assert worker.held >= 20
        scored = worker.score("a text of some words " * 4, 16)
        assert isinstance(scored, wire.Scored)


def test_it_guesses_what_the_model_itself_would_say() -> None:
    target, own = (Llama(str(FILE_PATH), Settings(256, 1, parallel=2)) for _ in range(2))
    assert difference(own.vocab, target.vocab) == ""
    s = Sequence(1, "a", target.vocab.tokenize("The capital of France is"), 5, 50)
    draft = Draft(own, own.vocab.size)
    draft.follow([s])
    guess = draft.guess([s], 6)[0][1]
    said, rows, at = list[int](), list(s.tokens), 0
    while len(said) < 6:
        target.decode([Part(0, at, rows, True)])
        at, rows = at + len(rows), [int(target.logits(0).argmax())]
        said += rows
    assert guess == said
    s.tokens += [*said[:3], said[0]]
    assert draft.missing(s) == 1, "what held is there already"
    target.cut(0, len(s.tokens) - 1)
    target.decode([Part(0, len(s.tokens) - 1, s.tokens[-1:], True)])
    assert draft.guess([s], 1)[0][1] == [int(target.logits(0).argmax())]


def test_another_vocabulary_is_refused(folder: Path) -> None:
    found = refused(FILE_PATH, draft=whole(folder / "small.gguf"))
    assert found.reason == "DraftUnsuitable"
    assert found.message.startswith("cannot guess with the draft: it has 2")
    other = folder / "other.gguf"
    other.write_bytes(model(spec=Spec(special=("<|im_begin|>", "<|im_end|>"))))
    found = refused(folder / "large.gguf", draft=whole(other))
    assert found.reason == "DraftUnsuitable"
    assert "b'<|im_begin|>', and the model's is b'<|im_start|>'" in found.message


def test_a_draft_that_can_not_be_cut_or_loaded_is_refused(folder: Path) -> None:
    mamba = write_mamba(folder / "mamba.gguf")
    assert refused(mamba, draft=whole(folder / "small.gguf")).reason in ("SpeculationUnsupported", "DraftUnsuitable")
    assert "can not be cut" in refused(folder / "large.gguf", draft=whole(mamba)).message
    broken = folder / "broken.gguf"
    broken.write_bytes((folder / "small.gguf").read_bytes()[:5000])
    found = refused(folder / "large.gguf", draft=whole(broken))
    assert (found.reason, found.message[:23]) == ("LoadFailed", "cannot load the draft: ")


def test_a_draft_that_changed_is_refused(folder: Path) -> None:
    path = folder / "changed.gguf"
    path.write_bytes((folder / "small.gguf").read_bytes())
    was = whole(path)
    path.write_bytes(b"another file")
    assert refused(folder / "large.gguf", draft=was).reason == "FileChanged"
