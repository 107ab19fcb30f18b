"""What the workers report of themselves, added up by model: for status and for /metrics. Nothing else writes it.

Totals grow for as long as the daemon runs and the model is declared, also when its worker is replaced.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import msgspec

from offgridd.engine import wire


@dataclass(slots=True)
class Totals:
    """Of one model. `now` is the sum of what its workers said last."""

    workers: dict[int, wire.Gauges] = field(default_factory=dict)
    now: wire.Gauges = field(default_factory=wire.Gauges)
    steps: int = 0
    step_rows: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    shelf_hits: int = 0
    guessed: int = 0
    held: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    spreads: dict[str, wire.Spread] = field(default_factory=dict)

    def says(self, worker: int, now: wire.Gauges | None) -> None:
        """None: it is gone."""
        if now is None:
            self.workers.pop(worker, None)
        else:
            self.workers[worker] = now
        parts = [msgspec.structs.astuple(one) for one in self.workers.values()]
        self.now = wire.Gauges(*map(sum, zip(*parts, strict=True)))

    def add(self, stats: wire.Stats) -> None:
        self.steps += stats.steps
        self.step_rows += stats.step_rows
        self.prompt_tokens += stats.prompt_tokens
        self.cached_tokens += stats.cached_tokens
        self.shelf_hits += stats.shelf_hits
        self.guessed += stats.guessed
        self.held += stats.held
        # New maps: another thread may be reading the old ones.
        self.ends = {n: self.ends.get(n, 0) + stats.ends.get(n, 0) for n in {**self.ends, **stats.ends}}
        self.spreads = {**self.spreads, **{n: _sum(self.spreads.get(n), s) for n, s in stats.spreads.items()}}

    @property
    def generated(self) -> int:
        """Tokens of answers."""
        return sum(sum(self.spreads[name].counts) for name in ("first_token", "inter_token") if name in self.spreads)


class Metrics:
    def __init__(self) -> None:
        self.models: dict[str, Totals] = {}

    def took(self, model: str, worker: int, stats: wire.Stats) -> None:
        """A worker of the model has reported."""
        totals = self.models.setdefault(model, Totals())
        totals.says(worker, stats.now)
        totals.add(stats)

    def gone(self, model: str, worker: int) -> None:
        if model in self.models:
            self.models[model].says(worker, None)

    def forget(self, declared: Container[str]) -> None:
        for name in [name for name in self.models if name not in declared]:
            del self.models[name]

    def measured(self, model: str) -> dict[str, int] | None:
        """Bytes of memory that its workers take; None where none has reported."""
        totals = self.models.get(model)
        if totals is None or not totals.workers:
            return None
        now = totals.now
        return {"own": now.own_bytes, "ownPeak": now.own_peak_bytes, "mapped": now.mapped_bytes,
                "cache": now.cache_bytes}  # fmt: skip

    def shown(self, model: str) -> dict[str, Any] | None:
        """For status: what is, and the means of what was; None where nothing was reported yet."""
        totals = self.models.get(model)
        if totals is None:
            return None
        now = totals.now
        return {
            "running": now.running, "waiting": now.waiting, "parked": now.parked, "cellsUsed": now.cells_used,
            "threads": now.threads, "cacheBytes": now.cache_bytes, "cacheTokens": now.cache_tokens,
            "batchFill": round(totals.step_rows / totals.steps, 2) if totals.steps else None,
            "requests": dict(totals.ends), "promptTokens": totals.prompt_tokens, "cachedTokens": totals.cached_tokens,
            "generatedTokens": totals.generated,
            "meanSeconds": {name: _mean(spread) for name, spread in totals.spreads.items()},
        }  # fmt: skip


def _sum(one: wire.Spread | None, other: wire.Spread) -> wire.Spread:
    if one is None:
        return other
    return wire.Spread(tuple(map(sum, zip(one.counts, other.counts, strict=True))), one.total + other.total)


def _mean(spread: wire.Spread) -> float | None:
    count = sum(spread.counts)
    return round(spread.total / count, 6) if count else None
