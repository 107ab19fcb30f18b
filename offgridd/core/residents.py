"""Who is in memory, and what is taken by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from offgridd.core.desired import ModelSpec
from offgridd.core.fit import Limits
from offgridd.core.memory import Ledger
from offgridd.core.observed import ModelFacts, Observed, Worker


@dataclass(frozen=True, slots=True)
class Resident:
    """A worker that serves, or is loading."""

    spec: ModelSpec
    facts: ModelFacts
    worker: Worker
    frozen: bool  # suspended

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
    """What is in memory: every process, those that stay, and whose they are. `bound`: the manifest sets a limit."""

    limits: Limits
    all: Ledger
    staying: Ledger
    owned: Sequence[Resident]
    bound: bool

    @classmethod
    def of(
        cls, models: Mapping[str, ModelSpec], observed: Observed, going: Set[int], limits: Limits, *, frozen: bool,
        bound: bool,
    ) -> Residents:  # fmt: skip
        """`going`: workers that are told to end in this pass; `frozen`: the whole is suspended."""
        every, staying, owned = Ledger(limits), Ledger(limits), list[Resident]()
        for charge in observed.starting.values():
            every.add(charge)
            staying.add(charge)
        for name, facts in observed.models.items():
            for worker in facts.workers:
                every.add(worker.charge)
                if worker.stopping or worker.id in going:
                    continue
                staying.add(worker.charge)
                if name in models:
                    spec = models[name]
                    owned.append(Resident(spec, facts, worker, frozen or spec.suspend))
        return cls(limits, every, staying, owned, bound)
