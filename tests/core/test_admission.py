"""Who is loaded when memory is short, by property: any residents, any candidates, any budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import hypothesis.strategies as st
from hypothesis import assume, given

from offgridd.core.actions import StartWorker
from offgridd.core.admission import COMES_BACK, LOADS, Admission, Candidate, admit
from offgridd.core.desired import FileSource, LoadSpec, ModelSpec
from offgridd.core.fit import Limits
from offgridd.core.memory import Ledger
from offgridd.core.observed import (
    Charge,
    Eviction,
    Identity,
    ModelFacts,
    ModelHeader,
    Observed,
    VerifiedFile,
    Worker,
)
from offgridd.core.residents import Residents

FILE = VerifiedFile("/f", Identity(1, 1, 1, 1), "0" * 64, ModelHeader("llama", "", 0, 1, 1, 1, 1, 1, 1, 1, True), "k")
CHARGES = st.builds(
    lambda own, shared, file, gpu: Charge(own, shared, file if shared else "", ((0, gpu),) if gpu else ()),
    st.integers(1, 6),
    st.sampled_from([0, 0, 2, 3]),
    st.sampled_from(["x", "y"]),
    st.sampled_from([0, 0, 2]),
)
STATES = ["ready", "ready", "loading", "stopping"]
RANKS = st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from([False, False, False, True]))
WORKERS = st.tuples(RANKS, CHARGES, st.sampled_from([0, 0, 0, 1]), st.sampled_from(STATES), st.integers(0, 9))
WANTED = st.tuples(RANKS, CHARGES, st.sampled_from([0, 1]))
LIMITS = st.builds(
    lambda ram, gpu: Limits(ram, ((0, gpu),) if gpu else ()), st.integers(0, 20), st.sampled_from([0, 2, 4])
)


def spec(name: str, rank: tuple[int, bool, bool]) -> ModelSpec:
    return ModelSpec(name, FileSource(f"/{name}"), priority=rank[0], preload=rank[1], pin=rank[2])


class World:
    """Workers of models r0, r1 ... and candidates c0, c1 ..."""

    def __init__(self, workers: list[tuple], wanted: list[tuple], limits: Limits) -> None:  # type: ignore[type-arg]
        self.limits = limits
        self.models: dict[str, ModelSpec] = {}
        facts: dict[str, ModelFacts] = {}
        for index, (rank, cost, uses, state, at) in enumerate(workers):
            name = f"r{index}"
            self.models[name] = spec(name, rank)
            worker = Worker(index, "k", index, ready=state != "loading", stopping=state == "stopping", charge=cost)
            facts[name] = ModelFacts(workers=(worker,), uses=uses, used_at=at)
        self.candidates = []
        for index, (rank, cost, uses) in enumerate(wanted):
            name = f"c{index}"
            self.models[name], facts[name] = spec(name, rank), ModelFacts(uses=uses)
            self.candidates.append(self.candidate(name, facts[name], cost))
        self.observed = Observed(facts)

    def candidate(self, name: str, facts: ModelFacts, cost: Charge) -> Candidate:
        return Candidate(self.models[name], facts, StartWorker(name, FILE, LoadSpec(), 0, "k"), lambda: cost)

    def admit(self, *candidates: Candidate, bound: bool = False, now: float = 100.0) -> Admission:
        residents = Residents.of(self.models, self.observed, set(), self.limits, frozen=False, bound=bound)
        return admit(candidates or self.candidates, self.observed, residents, now)

    def ledger(self, without: set[int] = frozenset()) -> Ledger:  # type: ignore[assignment]
        workers = [w for f in self.observed.models.values() for w in f.workers if w.id not in without]
        return Ledger.of(self.limits, [w.charge for w in workers])

    def told(self, made: Admission) -> set[int]:
        """The workers that are to go."""
        cancelled = {w.id for name in made.cancel for w in self.observed.of(name).workers}
        return cancelled | {stop.worker for stop in made.stop}

    def gone(self) -> set[int]:
        return {w.id for f in self.observed.models.values() for w in f.workers if w.stopping}

    def may_go(self, candidate: Candidate, *, busy: bool = False) -> list[int]:
        def yields(name: str) -> bool:
            one, rank = self.models[name], candidate.spec.priority
            return not one.pin and (one.priority < rank or (one.priority == rank and not one.preload))

        facts = [(n, f) for n, f in self.observed.models.items() if f.workers and yields(n)]
        return [w.id for n, f in facts for w in f.workers if not w.stopping and (busy or not f.uses)]


@given(st.lists(WORKERS, max_size=5), st.lists(WANTED, min_size=1, max_size=4), LIMITS)
def test_what_starts_fits_and_only_who_may_be_asked_makes_room(
    workers: list[tuple],
    wanted: list[tuple],
    limits: Limits,  # type: ignore[type-arg]
) -> None:
    world = World(workers, wanted, limits)
    made = world.admit()
    ledger = world.ledger()
    for action in made.start:
        assert ledger.fits(action.charge)
        ledger.add(action.charge)
    for stop in made.stop:
        assert stop.why == "evicted"
        assert any(stop.worker in world.may_go(c) for c in world.candidates if f"c{c.spec.name[1:]} " in stop.by)
    assert len({stop.worker for stop in made.stop}) == len(made.stop)
    assert not {a.model for a in made.start} & made.short.keys()
    promised = world.ledger(world.gone() | world.told(made))
    for candidate in world.candidates:
        if candidate.spec.name not in made.short:
            promised.add(candidate.cost())
    all_judged = sum(state == "loading" for *_, state, _ in workers) + len(wanted) <= LOADS
    assert made.short or not all_judged or not promised.over or world.ledger(world.gone()).over


@given(st.lists(WORKERS, max_size=5), WANTED, LIMITS)
def test_one_candidate_gets_room_whenever_there_is_any_and_no_more_goes_than_must(
    workers: list[tuple],
    wanted: tuple,
    limits: Limits,  # type: ignore[type-arg]
) -> None:
    assume(sum(state == "loading" for *_, state, _ in workers) < LOADS)
    world = World(workers, [wanted], limits)
    (candidate,) = world.candidates
    made, need, gone = world.admit(), candidate.cost(), world.gone()
    possible = world.ledger(gone | set(world.may_go(candidate))).fits(need)
    assert ("c0" in made.short) == (not possible)
    if not possible:
        assert made.short["c0"].passes == world.ledger(gone | set(world.may_go(candidate, busy=True))).fits(need)
        assert not world.told(made), "who is left out has nobody go"
    victims = world.told(made)
    if victims:
        assert world.ledger(gone | victims).fits(need)
        for fewer in combinations(victims, len(victims) - 1):
            assert not world.ledger(gone | set(fewer)).fits(need)
    else:
        assert not made.start or world.ledger().fits(need)


@given(st.lists(WORKERS, max_size=6), LIMITS)
def test_a_lower_budget_has_idle_ones_go_and_no_more_than_must(workers: list[tuple], limits: Limits) -> None:  # type: ignore[type-arg]
    world = World(workers, [], limits)
    made = world.admit(bound=True)
    firm = {w.id for n, f in world.observed.models.items() for w in f.workers if world.models[n].pin or f.uses}
    stopped = world.told(made)
    assert not stopped & firm
    left = world.ledger(world.gone() | stopped)
    assert not left.over or all(w in firm | world.gone() | stopped for w in range(len(workers)))
    assert not stopped or world.ledger(world.gone()).over


def test_it_says_what_is_in_the_way() -> None:
    gb = 10**9
    world = World(
        [((0, True, True), Charge(2 * gb), 0, "ready", 0), ((0, False, False), Charge(gb), 1, "ready", 0)],
        [((0, True, False), Charge(6 * gb), 0)], Limits(8 * gb),
    )  # fmt: skip
    short = world.admit().short["c0"]
    assert short.failure.reason == "InsufficientMemory"
    assert short.failure.message == (
        "cannot load it: it needs 6 GB, the budget is 8 GB and 5 GB are free; busy: r1; pinned: r0"
    )
    assert short.passes, "when r1 is idle it goes"
    world = World([], [((0, True, False), Charge(9 * gb), 0)], Limits(8 * gb))
    assert "the budget for all models is 8 GB" in world.admit().short["c0"].failure.message


def test_who_made_room_waits_and_then_comes_back() -> None:
    world = World([], [((0, True, False), Charge(1), 0)], Limits(10))
    (candidate,) = world.candidates
    evicted = replace(candidate, facts=replace(candidate.facts, evicted=Eviction(100.0, "big (priority 5)")))
    made = world.admit(evicted, now=100 + COMES_BACK - 1)
    assert (made.start, made.wakes) == ([], [100 + COMES_BACK])
    assert made.short["c0"].failure.reason == "Evicted"
    assert "big (priority 5)" in made.short["c0"].failure.message
    assert world.admit(evicted, now=100 + COMES_BACK).start


def test_a_few_load_at_once_the_highest_priority_first() -> None:
    world = World([], [((index % 3, True, False), Charge(1), 0) for index in range(9)], Limits(None))
    assert [a.model for a in world.admit().start] == ["c2", "c5", "c8", "c1"][:LOADS]


def test_one_is_replaced_beside_the_old_one_at_a_time_and_without_room_the_old_one_ends_first() -> None:
    workers = [((0, True, False), Charge(4), 0, "ready", 0), ((0, True, False), Charge(4), 0, "ready", 0)]
    roomy = World(workers, [], Limits(20))
    candidates = [roomy.candidate(name, roomy.observed.of(name), Charge(4)) for name in ("r0", "r1")]
    made = roomy.admit(*candidates)
    assert ([a.model for a in made.start], made.stop) == (["r0"], [])
    tight = World(workers, [], Limits(10))
    made = tight.admit(tight.candidate("r0", tight.observed.of("r0"), Charge(5)))
    assert (made.start, [(s.worker, s.why) for s in made.stop]) == ([], [(0, "replaced")])
    made = tight.admit(tight.candidate("r0", tight.observed.of("r0"), Charge(7)))
    assert (made.stop, list(made.short)) == ([], ["r0"]), "where it would not fit either the old one serves on"


@given(WANTED, WANTED, st.booleans())
def test_whom_one_that_only_comes_is_in_the_way_of_waits_where_that_one_will_make_room(
    first: tuple, second: tuple, starting: bool  # type: ignore[type-arg]
) -> None:  # fmt: skip
    world = World([], [first, second], Limits(None, ()))
    ahead, behind = world.candidates
    most = max(ahead.cost().own + ahead.cost().shared, behind.cost().own + behind.cost().shared)
    world.limits = Limits(most, ())
    assume(not Ledger.of(world.limits, [ahead.cost()]).fits(behind.cost()))
    if starting:
        world.observed = replace(world.observed, starting={"c0": ahead.cost()})
        made = world.admit(behind)
    else:
        made = world.admit()
        assume(made.start and made.start[0].model == "c0")
    yields = not ahead.spec.pin and (
        ahead.spec.priority < behind.spec.priority
        or (ahead.spec.priority == behind.spec.priority and not ahead.spec.preload)
    )
    assert made.short["c1"].passes == yields
    assert not world.told(made), "who has no process yet is not sent away"


@given(st.permutations([1.0, 2.0, 3.0]))
def test_of_one_rank_who_waits_longest_is_given_the_room(asked: list[float]) -> None:
    world = World([], [((0, False, False), Charge(3), 1)] * 3, Limits(3))
    waiting = [replace(c, facts=replace(c.facts, asked_at=at)) for c, at in zip(world.candidates, asked, strict=True)]
    (started,) = world.admit(*waiting).start
    assert started.model == f"c{asked.index(1.0)}"
