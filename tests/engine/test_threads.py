"""How many threads compute, on simulated machines: time comes in as data."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridd.engine.threads import BUSY, FIRST_REST, LONGEST_REST, QUIET, TRIAL, Threads

MOST = st.integers(1, 64)
SHARES = st.floats(0, 1)


class Machine:
    """`seconds` says how long a step takes with a count of threads. `used` are the counts of the steps so far."""

    def __init__(self, threads: Threads, seconds: Callable[[int], float]) -> None:
        self.threads, self.seconds, self.at = threads, seconds, 0.0
        self.used: list[int] = []

    def step(self, queued: float = 0.5, rows: int = 1, times: int = 1) -> None:
        for _ in range(times):
            now = self.threads.now
            self.used.append(now)
            self.at += self.seconds(now)
            self.threads.stepped(rows, self.seconds(now), queued, self.at)

    def usual(self) -> int:
        """The count of most of the newest steps: the rests between trials are longer than trials."""
        return Counter(self.used[-600:]).most_common(1)[0][0]


def crowded(best: int) -> Callable[[int], float]:
    """Threads beyond `best` only wait, each for a while."""
    return lambda count: 0.02 / count if count <= best else 0.02 / best * (1 + 0.5 * (count - best))


def neighbours(threads: Threads, count: int) -> set[int]:
    return {max(1, count - max(1, count // 4)), min(threads.most, count + max(1, count // 3))}


@settings(max_examples=40, deadline=None)
@given(MOST, st.integers(1, 64))
def test_on_a_busy_machine_it_settles_where_neither_fewer_nor_more_are_faster(most: int, best: int) -> None:
    threads = Threads(most)
    machine = Machine(threads, crowded(min(best, most)))
    machine.step(times=20_000)
    settled = machine.usual()
    assert machine.seconds(settled) <= machine.seconds(most)
    assert all(machine.seconds(settled) <= machine.seconds(other) / 0.96 for other in neighbours(threads, settled))
    if best < most:
        assert settled < most


@given(MOST, st.integers(1, 64), st.integers(0, 2**32))
def test_noise_never_leaves_it_with_a_slower_count(most: int, best: int, seed: int) -> None:
    rng, plain = random.Random(seed), crowded(min(best, most))
    machine = Machine(Threads(most), lambda count: plain(count) * noise[0])
    noise = [1.0]
    for _ in range(6000):
        noise[0] = rng.uniform(0.9, 1.1)
        machine.step()
    assert plain(machine.usual()) <= plain(most) * 1.1


@given(MOST.filter(lambda m: m > 1), st.integers(2, 64))
def test_when_the_crowd_moves_it_follows(most: int, before: int) -> None:
    machine = Machine(Threads(most), crowded(min(before, most)))
    machine.step(times=3000)
    machine.seconds = crowded(1)
    machine.step(times=6000)
    assert machine.seconds(machine.usual()) < machine.seconds(most)
    machine.seconds = crowded(most)
    machine.step(times=9000)
    assert machine.seconds(machine.usual()) <= machine.seconds(1)


@given(MOST, st.lists(st.tuples(st.integers(1, 4), st.floats(0, 10), SHARES, st.floats(0, 2)), max_size=200))
def test_it_is_never_less_than_one_or_more_than_most(most: int, steps: list[tuple[int, float, float, float]]) -> None:
    threads, at = Threads(most), 0.0
    for rows, seconds, queued, pause in steps:
        at += seconds + pause
        threads.stepped(rows, seconds, queued, at)
        assert 1 <= threads.now <= most


@given(MOST, st.booleans(), st.lists(st.tuples(st.floats(0, 10), SHARES), max_size=100))
def test_where_it_does_not_adapt_or_there_is_one_it_never_changes(
    most: int, adaptive: bool, steps: list[tuple[float, float]]
) -> None:
    threads, at = Threads(1 if adaptive else most, adaptive=adaptive), 0.0
    for seconds, queued in steps:
        at += seconds
        threads.stepped(1, seconds, queued, at)
        assert threads.now == threads.most


def settled_on_fewer(most: int = 8) -> Machine:
    """One thread, at the end of a trial of more."""
    machine = Machine(Threads(most), crowded(1))
    machine.step(times=3000)
    while not machine.used[-1] > machine.threads.now == 1:
        machine.step()
    return machine


def test_once_it_is_quiet_all_are_tried_and_kept_where_they_are_faster() -> None:
    machine = settled_on_fewer()
    machine.seconds = crowded(8)
    ended = machine.at
    while machine.threads.now != 8:
        machine.step(queued=QUIET / 2)
    machine.step(queued=QUIET / 2, times=500)
    assert machine.used[-480:] == [8] * 480
    assert machine.at - ended < LONGEST_REST + 500 * 0.02


def test_with_all_threads_nothing_is_tried_until_it_is_busy() -> None:
    machine = Machine(Threads(8), crowded(1))
    machine.step(queued=BUSY, times=500)
    assert set(machine.used) == {8}


def trying(most: int = 8) -> Machine:
    """In its first trial, of which no step is done."""
    machine = Machine(Threads(most), crowded(1))
    machine.step(times=TRIAL)
    assert machine.threads.now < most
    return machine


def test_a_count_is_judged_by_steps_of_one_number_of_rows() -> None:
    machine = Machine(Threads(8), crowded(1))
    for i in range(500):
        machine.step(rows=1 + i // (TRIAL - 1) % 2)
    assert set(machine.used) == {8}


@given(st.integers(0, TRIAL - 1))
def test_a_trial_is_broken_off_when_the_number_of_rows_changes(done: int) -> None:
    machine = trying()
    machine.step(times=done)
    machine.step(rows=2)
    assert machine.threads.now == 8
    machine.step(rows=2, times=TRIAL - 1)
    assert machine.threads.now < 8, "and begun anew with what was measured since"


def test_a_hopeless_trial_ends_early() -> None:
    machine = trying()
    slow = 2 * TRIAL * machine.seconds(8)
    machine.seconds = lambda _: slow
    machine.step()
    assert machine.threads.now == 8


def test_a_trial_that_is_not_hopeless_has_all_its_steps() -> None:
    machine = trying()
    tried = machine.threads.now
    machine.step(times=TRIAL)
    assert machine.used[-TRIAL:] == [tried] * TRIAL


def test_between_trials_it_rests_and_longer_the_more_fail() -> None:
    """All counts are equally good, so that each trial fails."""
    machine, rests, ended = Machine(Threads(8), lambda _: 0.01), [], 0.0
    while len(rests) < 8:
        before = machine.threads.now
        machine.step()
        if machine.threads.now != 8 and before == 8:
            rests.append(machine.at - ended)
        elif machine.threads.now == 8 and before != 8:
            ended = machine.at
    wanted = [min(FIRST_REST * 2**i, LONGEST_REST) for i in range(1, 8)]
    assert all(want <= rest <= want + 0.02 for want, rest in zip(wanted, rests[1:], strict=True))


def test_after_a_trial_that_was_good_the_next_comes_soon() -> None:
    machine = trying()
    machine.step(times=TRIAL)
    better, ended = machine.threads.now, machine.at
    while machine.threads.now == better:
        machine.step()
    assert FIRST_REST <= machine.at - ended <= FIRST_REST + TRIAL * machine.seconds(better)


@pytest.mark.parametrize(("most", "free"), [(2, 1), (4, 2), (8, 6), (16, 12)])
def test_where_the_queue_ends_with_fewer_threads_it_stays_with_fewer(most: int, free: int) -> None:
    """Others hold the rest of the cores for good; none of ours queues while they are as many as what is left."""
    machine = Machine(Threads(most), lambda count: 0.04 / count if count <= free else 0.04 / free * 1.5)
    for _ in range(3000):
        machine.step(queued=0.4 if machine.threads.now > free else 0.0)
    newest = machine.used[-1000:]
    assert sum(count <= free for count in newest) > 700


def test_it_is_said_when_steps_have_to_be_plain() -> None:
    threads = Threads(4)
    assert not threads.seeking(0.0, 1.0)
    assert threads.seeking(0.5, 1.0)
    machine = Machine(threads, crowded(2))
    for _ in range(900):
        if threads.seeking(0.5, machine.at):
            machine.step()
        else:
            machine.at += 0.02  # a step with guesses: nothing is told of it
    assert threads.now <= 3, "those steps are enough to find the count"
    assert len(machine.used) < 500
    assert not Threads(4, adaptive=False).seeking(0.9, 1.0)
    assert not Threads(1).seeking(0.9, 1.0)
