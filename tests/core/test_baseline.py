"""What kept records say together: the best one, what is not comparable, and which may be held against later ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from offgridd.core.baseline import against_best, is_good, result_of
from offgridd.core.benchmark import BenchmarkSpec, Workload

WORK = Workload(iterations=5)


def record(rates: list[float], number: int = 1, **more: Any) -> dict[str, Any]:
    runs = [
        {"concurrency": 1, "depth": 0, "disturbed": "", "figures": {"prompt_tps": 10 * rate, "generation_tps": rate}}
        for rate in rates
    ]
    middle = sorted(rates)[len(rates) // 2]
    kind = {"label": "pp512 + tg128", "concurrency": 1, "depth": 0, "disturbed": False,
            "prompt_tps": {"median": 10 * middle}, "generation_tps": {"median": middle}}  # fmt: skip
    return {"id": number, "load_key": "k", "started": 5.0, "workload": asdict(WORK), "runs": runs, "results": [kind],
            "environment": {"cpu": "x", "cores": 2, "machine": "m"}, **more}  # fmt: skip


FAST, SLOW = record([50, 51, 52, 49, 50], 1), record([30, 31, 32, 29, 30], 2)


def test_the_best_one_counts_not_the_newest() -> None:
    found = against_best(record([40, 41, 42, 39, 40], 3), [FAST, SLOW])
    assert found is not None
    assert found["id"] == 1
    (prompt, answer) = found["ratios"]
    assert prompt["figure"] == "prompt_tps"
    assert answer["low"] < 0.8 < answer["high"] < 0.9


def test_what_is_not_comparable_is_no_baseline() -> None:
    elsewhere = {**FAST, "environment": {"cpu": "y", "cores": 2, "machine": "m"}}
    others = {**FAST, "workload": asdict(Workload(depth=(512,)))}
    disturbed = {**FAST, "results": [{**FAST["results"][0], "disturbed": True}]}
    for one in (elsewhere, others, disturbed, {**FAST, "good": False}, {**FAST, "imported": True}):
        assert against_best(SLOW, [one]) is None


def test_a_regression_is_no_later_baseline_and_says_by_how_much() -> None:
    seen = {**SLOW, "baseline": against_best(SLOW, [FAST])}
    assert not is_good(seen, BenchmarkSpec(max_regression=0.1))
    assert is_good(seen, BenchmarkSpec(max_regression=0.6))
    assert is_good(seen, None)
    assert not is_good(FAST, BenchmarkSpec(min_generation_tps=60))
    result = result_of(seen)
    assert result.least is not None
    assert result.least < 0.7
    assert "of the best so far" in result.least_text


def test_too_few_runs_say_nothing() -> None:
    found = against_best(record([1, 1]), [FAST])
    assert found is not None
    assert found["ratios"] == []


def test_what_a_later_version_says_more_changes_nothing() -> None:
    more = {**SLOW, "workload": {**SLOW["workload"], "temperature": 0}}
    more["baseline"] = {"ratios": [{"label": "pp512", "figure": "energy", "low": 1, "mid": 2, "high": 3}]}
    assert result_of(more).bench_key == result_of(SLOW).bench_key
    assert result_of(more).least_text.startswith("pp512: energy is 2 (1 to 3)")
    assert against_best(FAST, [more]) is not None
