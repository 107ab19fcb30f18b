"""Estimates of memory as JSON has them."""

from __future__ import annotations

from typing import Any

from offgridd.core.fit import Estimate


def shown(found: Estimate | None) -> dict[str, Any] | None:
    """Bytes, with the sums."""
    if found is None:
        return None
    return {
        "weights": found.weights, "repacked": found.repacked, "kv": found.kv, "compute": found.compute,
        "base": found.base, "total": found.total, "own": found.own, "mapped": found.mapped, "moving": found.moving,
        "cache": found.cache, "spilled": found.spilled, "charge": found.charge,
    }  # fmt: skip
