"""What the scheduler of inputs must do whatever comes: all of each input once, in order, fairly and within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from offgridd.engine.embed import QUEUE_LIMIT, Job, Jobs, Piece

FILL, SLOTS = 40, 5
lengths = st.lists(st.integers(1, 130), min_size=1, max_size=12)
arrivals = st.lists(st.tuples(st.sampled_from("abc"), lengths, st.integers(0, 3)), min_size=1, max_size=12)


def job(number: int, client: str, sizes: list[int]) -> Job:
    """Each token says where it belongs."""
    inputs = [[number * 10_000 + index * 200 + at for at in range(size)] for index, size in enumerate(sizes)]
    return Job.of(number, client, inputs)


def check_bounds(pieces: tuple[Piece, ...], jobs: Jobs) -> None:
    rows = sum(piece.count for piece in pieces)
    assert len({id(piece.input) for piece in pieces}) == len(pieces)
    assert len({piece.input.slot for piece in pieces}) == len(pieces) <= SLOTS
    assert all(0 <= piece.input.slot <= SLOTS for piece in pieces)
    assert rows <= FILL or (len(pieces) == 1 and not jobs.splits)


@given(arrivals, st.booleans())
def test_all_of_each_input_is_computed_once_and_in_order(asked: list[tuple[str, list[int], int]], splits: bool) -> None:
    jobs, made, ended = Jobs(SLOTS, splits, FILL), dict[tuple[int, int], list[int]](), list[int]()
    open_slots: dict[int, object] = {}

    def step() -> None:
        pieces = jobs.next()
        assert bool(pieces) == (len(jobs) > 0)
        check_bounds(pieces, jobs)
        for piece in pieces:
            assert open_slots.setdefault(piece.input.slot, piece.input) is piece.input, "one input in a slot"
            made.setdefault((piece.input.request, piece.input.index), []).extend(piece.tokens)
            if piece.last:
                del open_slots[piece.input.slot]
        ended.extend(one.id for one in jobs.computed(pieces))
        assert len(open_slots) <= 1

    for number, (client, sizes, steps) in enumerate(asked):
        assert jobs.put(job(number, client, sizes))
        for _ in range(steps):
            step()
    while len(jobs):
        step()
    assert sorted(ended) == list(range(len(asked)))
    wanted = {
        (n, i): [n * 10_000 + i * 200 + at for at in range(size)]
        for n, (_, sizes, _) in enumerate(asked)
        for i, size in enumerate(sizes)
    }
    assert made == wanted


@given(st.booleans(), st.integers(1, 130))
def test_nobody_waits_for_all_of_another_client(splits: bool, size: int) -> None:
    jobs = Jobs(SLOTS, splits, FILL)
    jobs.put(job(1, "many", [30] * 500))
    jobs.put(job(2, "many", [120] * 9))
    jobs.computed(jobs.next())
    jobs.put(job(3, "one", [size]))
    done = list[int]()
    for _ in range(2 + 2 * -(-size // FILL)):
        done += [one.id for one in jobs.computed(jobs.next())]
    assert done == [3]


def test_short_inputs_come_together_and_long_ones_by_themselves() -> None:
    jobs = Jobs(SLOTS, False, FILL)
    jobs.put(job(1, "a", [35, 8, 100, 8, 8]))
    found = []
    while pieces := jobs.next():
        found.append([piece.count for piece in pieces])
        jobs.computed(pieces)
    assert found == [[8, 8, 8], [35], [100]]


def test_a_long_input_keeps_its_slot_until_its_request_is_taken_out() -> None:
    jobs = Jobs(SLOTS, True, FILL)
    long = job(1, "a", [130])
    jobs.put(long)
    (piece,) = jobs.next()
    jobs.computed((piece,))
    slot = long.left[0].slot
    jobs.put(job(2, "b", [5, 5]))
    jobs.computed(jobs.next())  # who comes stands at the end of the line
    others = jobs.next()
    assert [p.job.id for p in others] == [2, 2]
    assert slot not in {p.input.slot for p in others}
    jobs.computed(others)
    assert jobs.remove(long) == slot
    assert len(jobs) == 0
    assert jobs.next() == ()


def test_what_was_broken_off_begins_anew() -> None:
    jobs = Jobs(SLOTS, True, FILL)
    jobs.put(job(1, "a", [130]))
    jobs.computed(jobs.next())
    pieces = jobs.next()
    jobs.undo(pieces)
    (again,) = jobs.next()
    assert (again.input.done, again.count) == (0, FILL)


def test_a_client_can_not_fill_the_queue() -> None:
    jobs = Jobs(SLOTS, False, FILL)
    taken = [jobs.put(job(n, "a", [5])) for n in range(QUEUE_LIMIT)]
    assert taken.count(True) == QUEUE_LIMIT * 2 // 3
    assert jobs.put(job(999, "b", [5]))
