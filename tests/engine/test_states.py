"""Where beginnings come from over lives of a worker: what one has kept another one has, and nobody waits for ever."""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from offgridd.engine import shelf as shelves
from offgridd.engine import states as module
from offgridd.engine.batch import Batch
from offgridd.engine.fake import Fake
from offgridd.engine.port import Memory, Part
from offgridd.engine.sequence import Sequence
from offgridd.engine.shelf import Shelf
from offgridd.engine.shelffile import LEAST, Saved, read
from offgridd.engine.states import States

SYSTEM = [i % 250 for i in range(300)]


class Life:
    """A worker's, from its start to its end: `ask`s one after the other."""

    def __init__(self, folder: Path, memory: Memory = Memory.SHARED, slots: int = 2, budget: int = 1 << 20) -> None:
        self.model, self.came = Fake(4096, slots, memory=memory), queue.SimpleQueue[tuple[int, list[Saved]]]()
        self.batch = Batch(slots, 4096, 512, follows=memory is not Memory.WHOLE)
        self.shelf, self.read = Shelf(folder, "key", budget), 0
        bring = lambda request, found: self.came.put((request, found))  # noqa: E731
        self.states = States(self.model, self.batch, 1 << 20, self.shelf, bring)

    def begin(self, number: int, tokens: list[int]) -> Sequence:
        sequence = Sequence(number, "a", list(tokens), len(tokens), 5)
        self.batch.waiting.put(sequence)
        self.states.fill()
        return sequence

    def step(self) -> bool:
        """Whether there was something to compute."""
        decodes = self.batch.next()
        for decode in decodes:
            self.model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in decode.rows])
            self.batch.decoded(decode, 0.1)
        self.states.fill()
        return bool(decodes)

    def take(self) -> None:
        request, found = self.came.get(timeout=10)
        self.read += len(found)
        self.states.brought(request, found)

    def ask(self, tokens: list[int]) -> tuple[int, list[int]]:
        """How many tokens were not computed, and what the model holds then."""
        one = self.begin(1, tokens)
        if self.states.reading:
            self.take()
        while one.left:
            assert self.step()
        held = [cell.checksum for cell in self.model._cache[one.slot]]
        self.states.release(one)
        return one.cached, held

    def end(self) -> None:
        self.shelf.close()


def life(
    folder: Path, *prompts: list[int], memory: Memory = Memory.SHARED, budget: int = 1 << 20
) -> list[tuple[int, list[int]]]:
    one = Life(folder, memory, budget=budget)
    found = [one.ask(tokens) for tokens in prompts]
    one.end()
    return found


@pytest.mark.parametrize("memory", list(Memory))
def test_a_sequence_begins_with_what_an_earlier_life_has_kept(tmp_path: Path, memory: Memory) -> None:
    ((cached, _),) = life(tmp_path, SYSTEM, memory=memory)
    assert cached == 0
    ((cached, held),) = life(tmp_path, [*SYSTEM, 1, 2, 3], memory=memory)
    assert cached == 300
    assert life(tmp_path, [*SYSTEM, 1, 2, 3], memory=memory)[0][1] == held
    ((cached, _),) = life(tmp_path, [*SYSTEM[:200], 9, 9], memory=memory)
    assert cached == (0 if memory is Memory.WHOLE else 200)


@pytest.mark.parametrize("shared", [20, 40, 63, 64, 100, 200])
@pytest.mark.parametrize("memory", list(Memory))
def test_what_begins_as_something_earlier_did_is_of_use_in_the_next_life(
    tmp_path: Path, memory: Memory, shared: int
) -> None:
    other = [*SYSTEM[:shared], *([255] * 200)]
    life(tmp_path, SYSTEM, other, [*other, *([254] * 100)], memory=memory)
    (long, short, first) = life(tmp_path, [*other, *([254] * 100), 1], [*other, 2], [*SYSTEM, 3], memory=memory)
    assert long[0] == len(other) + 100
    assert short[0] == len(other)
    assert first[0] == 300
    alone = Life(tmp_path / "none", memory)
    assert long[1] == alone.ask([*other, *([254] * 100), 1])[1]


# Where a prompt parts from the first one, how long it goes on alone, and with which token.
PROMPTS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 150), st.integers(251, 255)), max_size=6)


@settings(max_examples=25, deadline=None)
@given(PROMPTS, st.sampled_from(list(Memory)), st.sampled_from([1 << 20, 6000]))
def test_no_file_stays_that_nobody_could_use(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int, int]], memory: Memory, budget: int
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    prompts = [SYSTEM, *([*SYSTEM[:at], *([token] * count)] for at, count, token in parts)]
    life(folder, *prompts[:3], memory=memory, budget=budget)
    life(folder, *prompts[3:], memory=memory, budget=budget)
    index = Shelf(folder, "key", budget)._index
    assert index.held <= budget
    for entry in index:
        assert index.reach(entry.tokens[: entry.start], whole=False) == entry.start
    for prompt in prompts if budget > 6000 else ():
        ((cached, _),) = life(folder, [*prompt, 1], memory=memory)
        assert cached > len(prompt) - LEAST


def test_what_the_disk_has_not_is_written_whole_though_the_memory_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Life(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(shelves, "PENDING", 0)
        one.ask(SYSTEM)
    one.ask([*SYSTEM, *([9] * 100)])
    one.end()
    (path,) = tmp_path.iterdir()
    assert read(path, b"key", path.stat().st_size).start == 0
    ((cached, _),) = life(tmp_path, [*SYSTEM, *([9] * 100), 1])
    assert cached == 400


def test_others_go_on_while_one_waits_for_the_disk(tmp_path: Path) -> None:
    life(tmp_path, SYSTEM)
    one = Life(tmp_path, slots=3)
    held = threading.Event()
    one.shelf._wanted.put(([], lambda _found: held.wait(10) and None, lambda: True))  # something slow is read before it
    slow = one.begin(1, [*SYSTEM, 1])
    assert (slow.coming, one.step()) == (True, False)
    other = one.begin(2, [255] * 100)
    while other.left:
        assert one.step()
    assert slow.done == 0
    follower = one.begin(3, [*SYSTEM, 1, 2])
    held.set()
    one.take()
    while slow.left or follower.left:
        assert one.step()
    assert (slow.cached, follower.cached, other.cached) == (300, 301, 0)
    assert one.read == 1, "what begins alike is read once"


def test_what_can_not_be_read_is_computed_and_what_takes_for_ever_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life(tmp_path, SYSTEM)
    (path,) = tmp_path.iterdir()
    one = Life(tmp_path)
    os.truncate(path, 100)
    slow = one.begin(1, [*SYSTEM, 1])
    one.take()
    assert (slow.coming, slow.cached, one.step()) == (False, 0, True)
    one.states.release(slow)

    life(tmp_path, [7] * 100)
    two = Life(tmp_path)
    monkeypatch.setattr(module, "PATIENCE", -1)
    two.shelf._wanted.put(([], lambda _found: threading.Event().wait(10) and None, lambda: True))
    late = two.begin(1, [*([7] * 100), 1])
    two.states.fill()
    assert (late.coming, two.step(), two.states.reading) == (False, True, False)


def test_who_leaves_while_its_beginning_is_read_is_forgotten(tmp_path: Path) -> None:
    life(tmp_path, SYSTEM)
    one = Life(tmp_path)
    gone = one.begin(1, [*SYSTEM, 1])
    assert one.states.reading
    one.states.release(gone)
    assert not one.states.reading
    one.take()
    assert one.states.prefixes.held == 0
    assert one.batch.running == []
