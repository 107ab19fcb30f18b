"""Who is in memory, and what is taken by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from offgridd.core.desired import ModelSpec
from offgridd.core.fit import Limits
from offgridd.core.memory import Ledger
from offgridd.core.observed import Charge, ModelFacts, Observed, Worker

NO_PROCESS = -1


@dataclass(frozen=True, slots=True)
class Resident:
    """A worker that serves, or is loading."""

    spec: ModelSpec
    facts: ModelFacts
    worker: Worker
    frozen: bool  # suspended

    @classmethod
    def to_be(cls, spec: ModelSpec, facts: ModelFacts, charge: Charge, frozen: bool) -> Resident:
        """One that has been given room and has no process yet."""
        return cls(spec, facts, Worker(NO_PROCESS, "", 0, charge=charge), frozen)

    @property
    def may_go(self) -> bool:
        """Now, and not only when it has ended what it does."""
        return not self.facts.uses and self.worker.id != NO_PROCESS

    @property
    def rank(self) -> tuple[int, bool, float]:
        """The lowest makes room first. One that loads has the least to lose."""
        since = max(self.facts.used_at, self.worker.ready_at) if self.worker.ready else -1.0
        return self.spec.priority, self.spec.preload, since

    @property
    def firm(self) -> bool:
        return self.spec.pin or self.frozen

    def yields_to(self, other: ModelSpec) -> bool:
        if self.firm or self.spec.name == other.name:
            return False
        lower = self.spec.priority < other.priority
        return lower or (not self.spec.preload and self.spec.priority == other.priority)


@dataclass(frozen=True, slots=True)
class Residents:
    """What is in memory: every process, those that stay, and whose they are; `coming` have no process yet.

    `bound`: the manifest sets a limit; `frozen`: the whole is suspended.
    """

    limits: Limits
    all: Ledger
    staying: Ledger
    owned: Sequence[Resident]
    coming: Sequence[Resident]
    bound: bool
    frozen: bool

    @classmethod
    def of(
        cls, models: Mapping[str, ModelSpec], observed: Observed, going: Set[int], limits: Limits, *, frozen: bool,
        bound: bool,
    ) -> Residents:  # fmt: skip
        """`going`: workers that are told to end in this pass."""
        every, staying, owned, coming = Ledger(limits), Ledger(limits), list[Resident](), list[Resident]()
        for name, charge in observed.starting.items():
            every.add(charge)
            staying.add(charge)
            if name in models:
                spec = models[name]
                coming.append(Resident.to_be(spec, observed.of(name), charge, frozen or spec.suspend))
        for name, facts in observed.models.items():
            for worker in facts.workers:
                every.add(worker.charge)
                if worker.stopping or worker.id in going:
                    continue
                staying.add(worker.charge)
                if name in models:
                    spec = models[name]
                    owned.append(Resident(spec, facts, worker, frozen or spec.suspend))
        return cls(limits, every, staying, owned, coming, bound, frozen)
