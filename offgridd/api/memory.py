"""Memory as JSON has it: estimates, and who takes what of the budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offgridd.core.desired import LOWEST_PRIORITY, Desired, ModelSpec
from offgridd.core.fit import Estimate, limits
from offgridd.core.memory import Ledger
from offgridd.core.naming import shown_name
from offgridd.core.observed import ModelFacts, Observed, Worker
from offgridd.core.plan import idle_until
from offgridd.core.stamps import stamp


def shown(found: Estimate | None) -> dict[str, Any] | None:
    """Bytes, with the sums."""
    if found is None:
        return None
    return {
        "weights": found.weights, "repacked": found.repacked, "kv": found.kv, "compute": found.compute,
        "base": found.base, "total": found.total, "own": found.own, "mapped": found.mapped, "moving": found.moving,
        "cache": found.cache, "spilled": found.spilled, "charge": found.charge,
    }  # fmt: skip


def taken(desired: Desired, observed: Observed, when: Callable[[float], float]) -> dict[str, Any]:
    """The budget, what is taken of it, and by which workers. `when` makes seconds since the epoch of monotonic ones."""
    bounds = limits(desired.server.memory, observed.host.memory)
    models = {**observed.kept, **desired.models}
    workers = [(name, facts, worker) for name, facts in observed.models.items() for worker in facts.workers]
    ledger = Ledger.of(bounds, [worker.charge for _, _, worker in workers])
    return {
        "ram": {"budget": bounds.ram, "taken": ledger.ram},
        "gpu": [{"number": n, "budget": size, "taken": ledger.gpu.get(n, 0)} for n, size in bounds.gpu],
        "workers": [_worker(models.get(name), name, facts, worker, when) for name, facts, worker in workers],
    }  # fmt: skip


def _worker(
    spec: ModelSpec | None, name: str, facts: ModelFacts, worker: Worker, when: Callable[[float], float]
) -> dict[str, Any]:
    due = idle_until(spec, facts) if spec and worker is facts.serving() else None
    declared = spec is not None and spec.priority >= LOWEST_PRIORITY
    return {
        "model": shown_name(spec) if spec else name, "pid": worker.pid, "own": worker.charge.own,
        "shared": worker.charge.shared, "gpu": [{"number": n, "bytes": size} for n, size in worker.charge.gpu],
        "state": "stopping" if worker.stopping else "ready" if worker.ready else "loading",
        "requests": facts.uses, "priority": spec.priority if spec and declared else None,
        "pinned": bool(spec and spec.pin), "unloadAfter": stamp(when(due)) if due is not None else None,
    }  # fmt: skip
