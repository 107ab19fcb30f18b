"""What kept benchmarks say together: the best one so far, and how a new one stands beside it. Pure.

Records are as docs/benchmarks.md has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from offgridd.core.benchmark import BenchmarkSpec, Run, Workload, headline, host_kind, summary
from offgridd.core.judging import RATES, below, ratio_interval
from offgridd.core.keys import bench_key
from offgridd.core.observed import Result

Record = Mapping[str, Any]
_FIGURES = ("prompt_tps", "generation_tps", "ttft")
_ASKED: Final = tuple(field.name for field in fields(Workload))


def workload_of(record: Record) -> Workload:
    """What a later version says more is let through, and is no part of it."""
    given = {name: record["workload"][name] for name in _ASKED}
    return Workload(**{**given, "concurrency": tuple(given["concurrency"]), "depth": tuple(given["depth"])})


def result_of(record: Record) -> Result:
    """What the loop has to know of a record."""
    key = bench_key(record["load_key"], workload_of(record), host_kind(record["environment"]))
    kinds = tuple(
        (kind["label"], {name: kind[name]["median"] for name in _FIGURES if name in kind}) for kind in record["results"]
    )
    ratios = (record.get("baseline") or {}).get("ratios", ())
    least = min(ratios, key=lambda one: float(one["high"]), default=None)
    text = ""
    if least is not None:
        what = RATES.get(least["figure"], least["figure"])
        text = f"{least['label']}: {what} is {least['mid']:.3g} ({least['low']:.3g} to {least['high']:.3g}) "
        text += "of the best so far"
    return Result(
        record["load_key"], headline(record), key, record["started"], kinds,
        any(kind["disturbed"] for kind in record["results"]), float(least["high"]) if least else None, text,
    )  # fmt: skip


def against_best(record: Record, earlier: Iterable[Record]) -> dict[str, Any] | None:
    """How the rates of `record` stand to those of the best one of the same workload and machine; None: there is none.

    Ratios whose bounds can not be told from so few runs are left out.
    """
    best = max((one for one in earlier if _comparable(record, one)), key=_rank, default=None)
    if best is None:
        return None
    ours, theirs = _runs(record), _runs(best)
    labels = {(kind["concurrency"], kind["depth"]): kind["label"] for kind in record["results"]}
    ratios = []
    for kind, name in ((kind, name) for kind in ours for name in RATES):
        new, old = ours[kind].get(name, ()), theirs.get(kind, {}).get(name, ())
        found = ratio_interval(new, old) if new and old else None
        if found is not None and math.isfinite(found.high):
            ratios.append({"label": labels[kind], "figure": name, "low": found.low, "mid": found.mid,
                           "high": found.high})  # fmt: skip
    return {"id": best.get("id"), "started": best["started"], "ratios": ratios}


def is_good(record: Record, spec: BenchmarkSpec | None) -> bool:
    """Whether later results may be held against it."""
    if spec is None:
        return True
    found = result_of(record)
    if any(below(spec, label, figures) for label, figures in found.kinds):
        return False
    return spec.max_regression is None or found.least is None or found.least >= 1 - spec.max_regression


def _comparable(record: Record, other: Record) -> bool:
    if other.get("imported") or other.get("good") is False or any(kind["disturbed"] for kind in other["results"]):
        return False
    same = record["workload"] == other["workload"] or workload_of(record) == workload_of(other)
    return same and host_kind(record["environment"]) == host_kind(other["environment"])


def _rank(record: Record) -> float:
    """By the first kind's answer, or its prompt where there is none."""
    first = record["results"][0]
    return float((first.get("generation_tps") or first.get("prompt_tps") or {"median": 0.0})["median"])


def _runs(record: Record) -> dict[tuple[int, int], dict[str, Sequence[float]]]:
    runs = (Run(one["concurrency"], one["depth"], one["figures"], one["disturbed"]) for one in record["runs"])
    return {
        kind: {name: spread.values for name, spread in by.items() if spread.low > 0}
        for kind, by in summary(runs).items()
    }
