"""Who is loaded when memory is short: which workers may start, which make room for them, and why others must wait.

Pure. All models that want a worker are judged together, the highest priority first: what one is given, another has
not. Room is made by idle models only, of a lower priority, or of the same one where they are loaded on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from offgridd.core.actions import StartWorker, StopWorker
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.fit import Limits
from offgridd.core.memory import Ledger
from offgridd.core.naming import shown_name
from offgridd.core.observed import Charge, ModelFacts, Observed, Short
from offgridd.core.residents import Resident, Residents
from offgridd.core.sizes import show_size

LOADS = 4  # workers that load at once
COMES_BACK = 60.0  # seconds after which a model that made room may take its place again, where there is room
BUDGET = "the budget"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that wants a worker, the action that would start it, and what that would take, which is dear to know."""

    spec: ModelSpec
    facts: ModelFacts
    action: StartWorker
    cost: Callable[[], Charge]

    @property
    def gentle(self) -> bool:
        """Nobody leaves for it: it is only to be measured."""
        return self.spec.challenger or (self.facts.gently and not self.spec.preload)


@dataclass
class Admission:
    """What came of it. `cancel`: models whose worker loads and is to end; `wakes`: when to look again, monotonic."""

    start: list[StartWorker] = field(default_factory=list)
    stop: list[StopWorker] = field(default_factory=list)
    cancel: list[str] = field(default_factory=list)
    short: dict[str, Short] = field(default_factory=dict)
    wakes: list[float] = field(default_factory=list)


class _Judge:
    """`now` counts every process there is; `soon` those that stay, and what has been promised."""

    def __init__(self, there: Residents) -> None:
        self.limits, self.now, self.soon, self.frozen = there.limits, there.all, there.staying, there.frozen
        self.busy = any(one.facts.uses for one in there.owned)
        self.residents = sorted(there.owned, key=lambda one: one.rank)
        self.coming = list(there.coming)  # who has been given room and has no process yet
        self.made = Admission()
        self.promised = 0  # workers that start, or will when others have ended
        self._holders: dict[int, str] = {}  # by priority, who makes no room for it

    def shrink(self) -> None:
        """What is taken is more than the budget: it was lowered, or a worker takes more than was reckoned."""
        for one in [r for r in self.residents if not r.firm and not r.facts.uses]:
            if not self.soon.over:
                return
            self._evict(one, BUDGET)

    def admit(self, candidate: Candidate) -> None:
        spec, need = candidate.spec, candidate.action.charge
        if self.now.fits(need):
            self._start(candidate)
        elif self.soon.fits(need):
            self._promise(candidate)  # others are on their way out
        elif old := [r for r in self.residents if r.spec.name == spec.name and r.worker.ready]:
            self._replace(candidate, old)
        elif (victims := self._victims(candidate)) is not None:
            self._make_room(candidate, victims)
        else:
            self.made.short[spec.name] = self._why(candidate)

    def _start(self, candidate: Candidate) -> None:
        self.made.start.append(replace(candidate.action, beside=self.busy))
        self._promise(candidate)

    def _promise(self, candidate: Candidate) -> None:
        spec, need = candidate.spec, candidate.action.charge
        self.coming.append(Resident.to_be(spec, candidate.facts, need, self.frozen or spec.suspend))
        self.promised += 1
        self.now.add(need)
        self.soon.add(need)

    def _replace(self, candidate: Candidate, old: Sequence[Resident]) -> None:
        """There is no room for both: the old one ends first, where the new one has room then."""
        for one in old:
            self.soon.remove(one.worker.charge)
        victims = [] if self.soon.fits(candidate.action.charge) else self._victims(candidate)
        for one in old:
            self.soon.add(one.worker.charge)
        if victims is None:
            self.made.short[candidate.spec.name] = self._why(candidate)
            return
        for one in old:
            self._stop(one, StopWorker(one.spec.name, one.worker.id, one.spec.drain))
        self._make_room(candidate, victims)

    def _make_room(self, candidate: Candidate, victims: Iterable[Resident]) -> None:
        for one in victims:
            self._evict(one, f"{shown_name(candidate.spec)} (priority {candidate.spec.priority})")
        self._promise(candidate)

    def _evict(self, one: Resident, by: str) -> None:
        self._stop(one, StopWorker(one.spec.name, one.worker.id, one.spec.drain, "evicted", by))

    def _stop(self, one: Resident, action: StopWorker) -> None:
        if one.worker.ready:
            self.made.stop.append(action)
        else:
            self.made.cancel.append(one.spec.name)
        self.soon.remove(one.worker.charge)
        self.residents.remove(one)

    def _victims(self, candidate: Candidate, *, busy: bool = False) -> list[Resident] | None:
        """The least that has to go for it; None where even all that may go is not enough.

        `busy`: those count, too, that may go once they are idle.
        """
        spec, need = candidate.spec, candidate.action.charge
        if candidate.gentle:
            return None
        chosen: list[Resident] = []
        there = sorted([*self.residents, *self.coming], key=lambda one: one.rank) if busy else self.residents
        for one in there:  # those of a higher priority come last
            if one.spec.priority > spec.priority or self.soon.fits(need):
                break
            if one.yields_to(spec) and (busy or one.may_go):
                self.soon.remove(one.worker.charge)
                chosen.append(one)
        enough = self.soon.fits(need)
        for one in list(reversed(chosen)):  # the last that were taken may be enough without the first
            self.soon.add(one.worker.charge)
            if not self.soon.fits(need):
                self.soon.remove(one.worker.charge)
            else:
                chosen.remove(one)
        for one in chosen:
            self.soon.add(one.worker.charge)
        return chosen if enough else None

    def _why(self, candidate: Candidate) -> Short:
        spec, need = candidate.spec, candidate.action.charge
        lacking = Ledger(self.limits).lacks(need)
        if lacking:
            wanted, limit = _of(lacking, need, self.limits)
            text = f"cannot load it: it needs {show_size(wanted)} and the budget for all models is {show_size(limit)}"
            return Short(_failure(candidate, lacking, f"{text}; lower context, parallel or cache.ram, or raise memory"))
        lacking = self.soon.lacks(need)
        wanted, limit = _of(lacking, need, self.limits)
        taken = self.soon.ram if lacking == "ram" else self.soon.gpu.get(int(lacking.split()[1]), 0)
        text = (
            f"cannot load it: it needs {show_size(wanted)}, the budget is {show_size(limit)} and "
            f"{show_size(max(0, limit - taken))} are free"
        )
        busy = self._victims(candidate, busy=True) is not None
        if candidate.facts.serving() or spec.priority not in self._holders:
            self._holders[spec.priority] = self._held_by(spec)
        return Short(_failure(candidate, lacking, text + self._holders[spec.priority]), passes=busy)

    def _held_by(self, spec: ModelSpec) -> str:
        """Those that make no room for it, and why."""
        kinds: dict[str, list[str]] = {}
        for one in [*self.residents, *self.coming]:
            if one.spec.name == spec.name:
                continue
            why = "pinned" if one.spec.pin else "suspended" if one.frozen else "of its priority or above"
            if one.yields_to(spec):
                why = "" if one.may_go else "busy" if one.worker.ready else "loading"
            if why:
                kinds.setdefault(why, []).append(shown_name(one.spec))
        return "".join(f"; {why}: {', '.join(names[:5])}" for why, names in kinds.items())


def admit(candidates: Iterable[Candidate], observed: Observed, residents: Residents, now: float) -> Admission:
    """What may start, and what ends for it, at `now` (monotonic seconds)."""
    judged = _Judge(residents)
    if residents.bound:
        judged.shrink()
    loading = sum(1 for f in observed.models.values() for w in f.workers if not w.ready) + len(observed.starting)
    overlap = any(f.serving() and any(not w.ready for w in f.workers) for f in observed.models.values())
    overlap = overlap or any(observed.of(name).serving() for name in observed.starting)
    for candidate in sorted(candidates, key=_turn):
        evicted = candidate.facts.evicted if candidate.spec.preload else None
        if evicted is not None and now < evicted.at + COMES_BACK and not candidate.facts.serving():
            judged.made.wakes.append(evicted.at + COMES_BACK)
            judged.made.short[candidate.spec.name] = Short(_failure(candidate, "ram", "cannot load it yet"))
            continue
        if loading + judged.promised >= LOADS:
            continue  # the end of a load is a pass of its own
        if candidate.facts.serving() is not None:
            if overlap:
                continue
            overlap = True
        judged.admit(replace(candidate, action=replace(candidate.action, charge=candidate.cost())))
    return judged.made


def _turn(one: Candidate) -> tuple[int, bool, bool, float, str]:
    """Of one rank who has waited longest comes first: else one that just made room could take its place again."""
    since = 0.0 if one.spec.preload else one.facts.asked_at
    return -one.spec.priority, not one.spec.preload, not one.facts.uses, since, one.spec.name


def _of(lacking: str, need: Charge, limits: Limits) -> tuple[int, int]:
    """Bytes that are wanted of that memory, and what there is for all."""
    if lacking == "ram":
        return need.own + need.shared, limits.ram or 0
    number = int(lacking.split()[1])
    return dict(need.gpu).get(number, 0), dict(limits.gpu).get(number, 0)


def _failure(candidate: Candidate, lacking: str, text: str) -> Failure:
    evicted = candidate.facts.evicted
    if evicted is not None and candidate.spec.preload:
        return Failure("Loaded", "Evicted", f"it made room for {evicted.by} and comes back where there is room; {text}")
    reason = "InsufficientMemory" if lacking == "ram" else "InsufficientVram"
    return Failure("Loaded", reason, text if lacking == "ram" else f"{text} ({lacking})")
