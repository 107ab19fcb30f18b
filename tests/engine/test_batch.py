"""The scheduler by property: nobody starves, nothing is lost or doubled, no decode is too large."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from offgridd.engine.batch import FEW, GRID, LEAST, MOST, TARGET, Batch, Decode, Rows, Sequence
from offgridd.engine.fair import FairQueue
from offgridd.engine.sequence import TOKEN

ASKED = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 900), st.integers(1, 30)), min_size=1, max_size=25)


class Machine:
    """Runs a batch as the engine does, with cells that are counted and a clock that is told.

    A cell is a list of one key: a token, and the adapters it was computed with. That it is the same cell shows by
    identity.
    """

    def __init__(self, batch: Batch, rng: random.Random) -> None:
        self.batch, self.rng, self.order = batch, rng, list[int]()
        self.cells: dict[int, list[list[int]]] = {}  # by slot
        self.moved: dict[int, list[int]] = {}  # by request, tokens

    def submit(self, number: int, client: str, prompt: int, most: int, sets: int = 1) -> bool:
        """Prompts of one client begin alike, for a third of them. Of `sets` of adapters each has one, from where on."""
        alike, adapters = prompt // 3, self.rng.randrange(sets)
        switch = self.rng.choice([0, 0, prompt // 4, prompt - 1]) if adapters else 0
        tokens = [ord(client)] * alike + [number * 10_000 + i for i in range(prompt - alike)]
        made = Sequence(number, client, tokens, prompt, most, adapters=adapters, switch=switch)
        return self.batch.waiting.put(made)

    @property
    def used(self) -> int:
        return len({id(cell) for cells in self.cells.values() for cell in cells})

    def step(self) -> bool:
        batch = self.batch
        while (s := batch.resume()) is not None:
            self.cells[s.slot] = [[t] for t in self.moved.pop(s.id)]
        while (s := batch.admit()) is not None:
            assert not self.cells.get(s.slot)
            self.cells[s.slot] = []
            self.begin(s)
        ready, lost = batch.followers()
        for s, leader, length in ready:
            self.cells[s.slot] = self.cells[leader.slot][:length]
            assert [cell[0] for cell in self.cells[s.slot]] == s.keys(length)
        for s in lost:
            self.begin(s)
        assert len({s.slot for s in batch.running}) == len(batch.running) <= batch.slots
        decodes = batch.next()
        for decode in decodes:
            if not self.decode(decode):
                break
        assert self.used <= batch.used
        return bool(decodes)

    def begin(self, s: Sequence) -> None:
        """As if a part of some prompts had been kept."""
        kept = self.batch.lead(s, self.rng.choice([0, 0, 20, 10_000]))
        assert kept < s.prompt
        if kept and self.used + kept <= self.batch.cells:
            self.cells[s.slot] = [[t] for t in s.keys(kept)]
            self.batch.took(s, kept)

    def decode(self, decode: Decode) -> bool:
        assert 1 <= len(decode) <= self.batch.chunk
        assert len({r.sequence.id for r in decode.rows}) == len(decode.rows)
        if self.used + len(decode) > self.batch.cells:
            parked = self.batch.park()
            assert parked is not None, "one alone always has room"
            self.moved[parked.id] = [cell[0] for cell in self.cells.pop(parked.slot)]
            return False
        for r in decode.rows:
            cells = self.cells[r.sequence.slot]
            assert r.start == len(cells)
            cells += [[decode.adapters << TOKEN | t if decode.adapters else t] for t in r.tokens]
            assert [c[0] for c in cells] == r.sequence.keys(r.start + r.count), "its own, in order, as it wants them"
        self.batch.decoded(decode, self.rng.random())
        for r in decode.rows:
            if r.sample:
                self.sampled(r)
        return True

    def sampled(self, rows: Rows) -> None:
        s = rows.sequence
        assert rows.start + rows.count == len(s.tokens)
        s.tokens.append(len(s.tokens))
        if len(s.tokens) - s.prompt == s.limit:
            self.end(s.id)

    def end(self, request: int) -> None:
        s = self.batch.remove(request)
        assert s is not None
        if request in self.moved:
            del self.moved[request]
        elif s.slot >= 0:
            del self.cells[s.slot]
        self.order.append(request)


@given(ASKED, st.integers(1, 6), st.integers(930, 4000), st.integers(0, 2**32), st.integers(1, 4))
def test_each_request_gets_its_answer_whole_however_few_cells_there_are(
    asked: list[tuple[str, int, int]], slots: int, cells: int, seed: int, sets: int
) -> None:
    machine = Machine(Batch(slots, cells), random.Random(seed))
    for i, (client, prompt, most) in enumerate(asked):
        assert machine.submit(i, client, prompt, most, sets)
    steps = 0
    while machine.step():
        steps += 1
        assert steps < 50_000
    assert sorted(machine.order) == list(range(len(asked)))
    assert (len(machine.batch), machine.batch.used, machine.moved) == (0, 0, {})


@given(ASKED, st.integers(1, 4), st.lists(st.integers(0, 24), max_size=20), st.integers(0, 2**32))
def test_whoever_leaves_frees_its_place_and_touches_nobody_else(
    asked: list[tuple[str, int, int]], slots: int, leaves: list[int], seed: int
) -> None:
    machine = Machine(Batch(slots, 1000), random.Random(seed))
    for i, (client, prompt, most) in enumerate(asked):
        machine.submit(i, client, prompt, most)
    for request in leaves:
        machine.step()
        if request < len(asked) and request not in machine.order:
            machine.end(request)
    while machine.step():
        pass
    assert sorted(machine.order) == list(range(len(asked)))


@given(st.integers(1, 3000))
def test_alone_a_prompt_stays_on_the_grid_and_its_rest_is_by_itself(prompt: int) -> None:
    batch = Batch(4, 4096)
    batch.waiting.put(Sequence(1, "a", list(range(prompt)), prompt, 1))
    batch.admit()
    sizes = []
    while sum(sizes) < prompt:
        (decode,) = batch.next()
        sizes.append(len(decode))
        batch.decoded(decode, 5.0)
    assert all(size % GRID == 0 for size in sizes[:-1])
    assert sizes[-1] < GRID or sizes[-1] % GRID == 0


@given(st.integers(LEAST, 500), st.integers(1, 512))
def test_what_comes_behind_a_cached_prefix_is_one_decode_where_it_fits(cached: int, rest: int) -> None:
    batch = Batch(4, 4096)
    batch.waiting.put(Sequence(1, "a", list(range(cached + rest)), cached + rest, 1))
    sequence = batch.admit()
    assert sequence is not None
    assert batch.lead(sequence, cached) == cached
    batch.took(sequence, cached)
    (decode,) = batch.next()
    assert len(decode) == rest


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_no_client_is_served_twice_before_all_that_wait_are_served_once(clients: list[str]) -> None:
    batch = Batch(1, 4096)
    for i, client in enumerate(clients):
        batch.waiting.put(Sequence(i, client, [1], 1, 1))
    order = []
    while (s := batch.admit()) is not None:
        order.append(s.client)
        batch.remove(s.id)
    firsts = order[: len(set(clients))]
    assert len(set(firsts)) == len(firsts)


def test_the_queue_is_bounded() -> None:
    batch = Batch(1, 4096, waiting=FairQueue(3))
    assert [batch.waiting.put(Sequence(i, "a", [1], 1, 1)) for i in range(4)] == [True, True, False, False]
    assert [batch.waiting.put(Sequence(i, "b", [1], 1, 1)) for i in range(2)] == [True, False], "two thirds for one"


@given(st.floats(0.0001, 0.1), st.integers(1, 8))
def test_beside_running_sequences_prompt_rows_keep_to_the_time_that_they_may_take(row: float, streams: int) -> None:
    """Where even few rows take longer, the running ones get their steps in between."""
    batch = Batch(streams + 1, 100_000)
    for i in range(streams):
        batch.waiting.put(Sequence(i, "a", [1], 1, 10_000))
    while batch.admit():
        pass
    batch.waiting.put(Sequence(99, "a", list(range(4000)), 4000, 1))
    batch.admit()
    taken: list[float] = []
    while any(s.id == 99 and s.left > 1 for s in batch.running):
        seconds = 0.0
        for decode in batch.next():
            took = len(decode) * row if decode.prompt else 0.01
            seconds += took if decode.prompt else 0.0
            batch.decoded(decode, took)
            for r in decode.rows:
                if r.sample:
                    r.sequence.tokens.append(7)
        taken.append(seconds)
    settled = taken[3:-1]
    assert all(t <= max(TARGET, LEAST * row, min(FEW * row, MOST)) * 1.01 for t in settled)
    if settled:
        mean = sum(settled) / len(settled)
        assert mean <= MOST * 1.51, "long decodes are paid for with steps without prompt rows"


@given(st.integers(1, 15), st.integers(1000, 4000), st.floats(0.0005, 0.02))
def test_a_short_prompt_does_not_wait_for_a_long_one_nor_the_long_one_for_ever(
    short: int, long: int, row: float
) -> None:
    batch = Batch(4, 100_000)
    for i, prompt in enumerate((1, long, short)):
        batch.waiting.put(Sequence(i, "a", [i * 10_000 + n for n in range(prompt)], prompt, 100_000))
    running = []
    while (s := batch.admit()) is not None:
        running.append(s)

    def step() -> None:
        for decode in batch.next():
            batch.decoded(decode, len(decode) * row)
            for r in decode.rows:
                if r.sample:
                    r.sequence.tokens.append(7)

    for _ in range(3):
        step()
    assert len(running[2].tokens) > short, "it has its first token"
    for i in range(10_000):
        if running[1].left == 1:
            break
        if batch.waiting.first() is None:  # always another short one
            gone = next(s for s in batch.running if s is not running[0] and s is not running[1])
            batch.remove(gone.id)
            batch.waiting.put(Sequence(100 + i, "a", [-i - 1] * 5, 5, 1))
            batch.admit()
        step()
    assert running[1].left == 1


def test_who_is_parked_without_cells_begins_anew() -> None:
    batch = Batch(3, 10_000)
    for i in range(3):
        batch.waiting.put(Sequence(i, "a", [i * 1000 + n for n in range(100)], 100, 10))
    first, _, third = [batch.admit() for _ in range(3)]
    assert first is not None
    batch.took(first, 50)
    assert batch.park() is third, "only one holds cells, and it stays"
    assert batch.resume() is third


@given(st.integers(1, 40), st.integers(1, 3), st.floats(0.001, 0.3))
def test_streams_of_different_adapters_have_as_many_tokens_each(steps: int, beside: int, seconds: float) -> None:
    """One alone with its adapters, others that share theirs: sets take turns, and none stands still for long."""
    batch = Batch(beside + 1, 100_000)
    for i in range(beside + 1):
        batch.waiting.put(Sequence(i, "a", [i * 1000 + 1], 1, 10_000, adapters=1 if i else 2))
    while batch.admit():
        pass
    for _ in range(8 * steps):
        for decode in batch.next():
            assert {r.sequence.adapters for r in decode.rows} == {decode.adapters}
            batch.decoded(decode, seconds)
            for r in decode.rows:
                r.sequence.tokens.append(7)
    made = [len(s.tokens) for s in batch.running]
    assert max(made) - min(made) <= 4


def test_a_prompt_of_other_adapters_has_its_turn_where_prompt_steps_are_followed_by_rests() -> None:
    """A slow machine: each step with prompt rows takes so long that the running ones are owed one without."""
    batch = Batch(5, 1 << 20)
    for i, (adapters, prompt) in enumerate([(1, 1), (2, 1), (1, 50_000), (2, 50_000), (4, 100)]):
        batch.waiting.put(Sequence(i, "a", [i * 100_000 + n for n in range(prompt)], prompt, 10_000, adapters=adapters))
    while batch.admit():
        pass
    for _ in range(150):
        for decode in batch.next():
            batch.decoded(decode, len(decode) * 0.06 + 0.05)
            for r in decode.rows:
                if r.sample:
                    r.sequence.tokens.append(7)
    assert all(s.done > min(50, s.prompt) for s in batch.running), [s.done for s in batch.running]
