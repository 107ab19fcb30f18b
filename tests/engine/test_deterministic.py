"""`deterministic: true` on the real model: the same tokens, text and logprobs to the last bit, whatever runs beside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import FILE_PATH
from support.serving import Got, Serving, serving
from support.tinymamba import write_mamba, write_windowed

from offgridd.engine import wire
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.port import LoadError, Memory

TEXT = "The lighthouse keeper wrote in his book that the sea was calm and the ships were few. "
WORDS = (TEXT * 20).split()
# Of 5 to 300 words, a token each; half of them begin as others do.
LENGTHS = (5, 9, 16, 33, 60, 63, 64, 65, 100, 127, 200, 280)
PROMPTS = [" ".join(([] if i % 2 else [f"{i}"]) + WORDS[:length]) for i, length in enumerate(LENGTHS)]
COUNT = 12


def sampling(number: int) -> wire.SamplingParams:
    return wire.SamplingParams(temperature=0.8, seed=number) if number % 3 else wire.SamplingParams(temperature=0)


def ask(worker: Serving, number: int) -> int:
    return worker.ask(PROMPTS[number], count=COUNT, sampling=sampling(number), logprobs=3)


@pytest.fixture(scope="module")
def wanted() -> list[Got]:
    """Each asked alone, of a worker that keeps nothing."""
    with serving(FILE_PATH, threads=1, deterministic=True, cache=0) as worker:
        assert (worker.loaded.deterministic, worker.loaded.memory) == (True, Memory.APART.value)
        return [worker.wait(ask(worker, number))[0] for number in range(len(PROMPTS))]


@pytest.fixture(scope="module")
def busy() -> Iterator[Serving]:
    """Another one, with another number of threads, that keeps what it has computed."""
    with serving(FILE_PATH, threads=2, deterministic=True) as worker:
        yield worker


def disturb(worker: Serving, rng: random.Random) -> int:
    """A request of somebody else, long or short, that may begin as those of the test do."""
    start = rng.choice([0, 0, 3])
    text = " ".join(WORDS[start : start + rng.choice([4, 70, 150, 300])])
    return worker.ask(text, count=rng.choice([2, 10, 40]), sampling=wire.SamplingParams())


@pytest.mark.parametrize("seed", [1, 2])
def test_under_load_each_gets_bit_for_bit_what_it_gets_alone(wanted: list[Got], busy: Serving, seed: int) -> None:
    rng = random.Random(seed)
    order = rng.sample(range(len(PROMPTS)), len(PROMPTS))
    mine: dict[int, int] = {}
    others: list[int] = []
    for number in order:
        others += [disturb(busy, rng) for _ in range(rng.randint(0, 2))]
        mine[number] = ask(busy, number)
        for gone in [other for other in others[-4:] if rng.random() < 0.4]:
            busy.abort(gone)
        busy.begun(rng.choice([*mine.values()]))
    busy.wait(*mine.values())
    for number, request in mine.items():
        assert len(wanted[number].logprobs) > 0
        assert busy.got[request].answer == wanted[number].answer
    for other in others:
        busy.abort(other)
    busy.wait(*others)
    assert sum(busy.got[request].cached for request in mine.values()) > 0, "some of it was kept or shared"


def test_after_a_leave_the_same_beginning_gives_what_a_fresh_worker_gives(wanted: list[Got], busy: Serving) -> None:
    for number in (11, 9, 11, 10, 11):
        gone = ask(busy, number)
        if number != 9:
            busy.begun(gone)
        busy.abort(gone)
        again = ask(busy, number)
        assert busy.wait(again)[0].answer == wanted[number].answer
        busy.wait(gone)


@pytest.mark.parametrize("write", [write_mamba, write_windowed])
def test_a_model_that_can_not_keep_the_promise_is_refused(write: object, tmp_path: Path) -> None:
    assert callable(write)
    path = write(tmp_path / "model.gguf")
    with pytest.raises(LoadError) as refused:
        Llama(str(path), Settings(512, 1, parallel=2, deterministic=True))
    assert refused.value.reason == "DeterminismUnsupported"


def test_it_is_refused_where_the_cells_are_too_few_for_a_buffer_each() -> None:
    with pytest.raises(LoadError) as refused:
        Llama(str(FILE_PATH), Settings(512, 1, parallel=4, cells=512, deterministic=True))
    assert refused.value.reason == "DeterminismUnsupported"
