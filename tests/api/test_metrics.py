"""What workers report, added up by model, and as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from offgridd.api.metrics import Metrics
from offgridd.api.prometheus import exposition
from offgridd.engine.meter import SPREADS
from offgridd.engine.wire import BOUNDS, Gauges, Spread, Stats

COUNT = st.integers(0, 1000)
SPREAD = st.builds(
    Spread, st.tuples(*[COUNT] * (len(BOUNDS) + 1)), st.floats(0, 1e6).map(lambda seconds: round(seconds, 3))
)
REPORT = st.builds(
    Stats,
    st.builds(Gauges, *[COUNT] * 7),
    *[COUNT] * 4,
    st.dictionaries(st.sampled_from(["stop", "length", "abort", "error", "refused"]), COUNT),
    st.fixed_dictionaries(dict.fromkeys(SPREADS, SPREAD)),
)
REPORTS = st.lists(st.tuples(st.sampled_from(["a", "b", 'so "c\\d']), REPORT), max_size=12)
GAUGES = ("running", "waiting", "parked", "cells_used", "cache_bytes", "cache_tokens", "threads", "own_bytes",
          "own_peak_bytes", "mapped_bytes")  # fmt: skip


def told(reports: Iterable[tuple[str, Stats]]) -> Metrics:
    metrics = Metrics()
    for model, stats in reports:
        metrics.took(model, 1, stats)
    return metrics


def read(metrics: Metrics, ready: dict[str, bool]) -> dict[tuple[str, str, str], float]:
    """Samples by name, model, and the one other label."""
    found: dict[tuple[str, str, str], float] = {}
    text = exposition(metrics.models, ready).decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            key = (sample.name, labels.pop("model"), "".join(labels.values()))
            assert key not in found, "once each"
            found[key] = sample.value
    return found


@given(REPORTS)
def test_prometheus_reads_the_sums(reports: list[tuple[str, Stats]]) -> None:
    found = read(told(reports), {"a": True, "z": False})
    assert (found["offgridd_model_ready", "a", ""], found["offgridd_model_ready", "z", ""]) == (1, 0)
    for model in {name for name, _ in reports}:
        mine = [stats for name, stats in reports if name == model]
        sums = {
            ("offgridd_steps_total", ""): sum(s.steps for s in mine),
            ("offgridd_step_rows_total", ""): sum(s.step_rows for s in mine),
            ("offgridd_prompt_tokens_total", "computed"): sum(s.prompt_tokens for s in mine),
            ("offgridd_prompt_tokens_total", "cached"): sum(s.cached_tokens for s in mine),
        }
        sums |= {(f"offgridd_{gauge}", ""): getattr(mine[-1].now, gauge) for gauge in GAUGES}
        for reason in {reason for s in mine for reason in s.ends}:
            sums["offgridd_requests_total", reason] = sum(s.ends.get(reason, 0) for s in mine)
        made = [s.spreads[name].counts for s in mine for name in ("first_token", "inter_token")]
        sums["offgridd_generated_tokens_total", ""] = sum(map(sum, made))
        assert {key: found[key[0], model, key[1]] for key in sums} == sums
        for name in SPREADS:
            counts = [sum(one) for one in zip(*[s.spreads[name].counts for s in mine], strict=True)]
            buckets = [found[f"offgridd_{name}_seconds_bucket", model, bound] for bound in (*map(str, BOUNDS), "+Inf")]
            assert buckets == list(accumulate(counts))
            assert found[f"offgridd_{name}_seconds_count", model, ""] == sum(counts)
            total = sum(s.spreads[name].total for s in mine)
            assert found[f"offgridd_{name}_seconds_sum", model, ""] == pytest.approx(total)


@given(REPORTS)
def test_status_shows_the_sums_and_the_means(reports: list[tuple[str, Stats]]) -> None:
    metrics = told(reports)
    for model in {name for name, _ in reports}:
        mine, shown = [stats for name, stats in reports if name == model], metrics.shown(model)
        assert shown is not None
        steps, rows = sum(s.steps for s in mine), sum(s.step_rows for s in mine)
        assert shown["batchFill"] == (round(rows / steps, 2) if steps else None)
        assert shown["promptTokens"] == sum(s.prompt_tokens for s in mine)
        assert (shown["running"], shown["cacheBytes"]) == (mine[-1].now.running, mine[-1].now.cache_bytes)
        for name, mean in shown["meanSeconds"].items():
            spreads = [s.spreads[name] for s in mine]
            count = sum(sum(spread.counts) for spread in spreads)
            wanted = sum(spread.total for spread in spreads) / count if count else None
            assert mean == (wanted if wanted is None else pytest.approx(wanted, abs=1e-6))


def report(**now: int) -> Stats:
    return Stats(Gauges(**now), 1, 2, 3, 4, {"stop": 1}, {})


def test_where_no_worker_is_left_nothing_runs_and_the_totals_stay() -> None:
    metrics = told([("a", report(running=2, cache_bytes=9)), ("b", report(running=1))])
    metrics.gone("a", 1)
    metrics.gone("never seen", 1)
    assert metrics.models["a"].now == Gauges()
    assert (metrics.models["a"].steps, metrics.models["a"].ends) == (1, {"stop": 1})
    assert metrics.models["b"].now.running == 1
    assert set(metrics.models) == {"a", "b"}


def test_while_one_worker_replaces_another_both_count_until_one_is_gone() -> None:
    metrics = Metrics()
    metrics.took("a", 1, report(running=2, threads=1))
    metrics.took("a", 2, report(running=1, threads=2))
    assert metrics.models["a"].now == Gauges(running=3, threads=3)
    metrics.gone("a", 1)
    assert metrics.models["a"].now == Gauges(running=1, threads=2)


def test_what_workers_take_is_shown_while_there_are_any() -> None:
    metrics = Metrics()
    assert metrics.measured("a") is None
    metrics.took("a", 1, report(own_bytes=5, own_peak_bytes=7, mapped_bytes=3, cache_bytes=2))
    assert metrics.measured("a") == {"own": 5, "ownPeak": 7, "mapped": 3, "cache": 2}
    metrics.gone("a", 1)
    assert metrics.measured("a") is None


def test_a_model_that_is_declared_no_more_is_forgotten() -> None:
    metrics = told([("a", report()), ("b", report())])
    metrics.forget({"b": None})
    assert (set(metrics.models), metrics.shown("a")) == ({"b"}, None)
    metrics.took("a", 1, report())
    assert metrics.models["a"].steps == 1, "it begins anew"


def test_a_report_is_not_changed_by_the_next() -> None:
    first = report()
    told([("a", first), ("a", report())])
    assert first.ends == {"stop": 1}


def test_the_newest_benchmark_is_shown_by_kind_and_without_what_was_disturbed() -> None:
    kinds = [{"label": label, "concurrency": 1, "depth": 0, "disturbed": disturbed, "ttft": {"median": 0.5}}
             for label, disturbed in (("pp1 + tg2", False), ('so "c\\d', False), ("pp1 x 4", True))]  # fmt: skip
    kinds[0]["generation_tps"] = {"median": 7.25}
    text = exposition({}, {}, None, {"a": {"started": 1.5e9, "results": kinds}}).decode()
    families = text_string_to_metric_families(text)
    found = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    assert found == {
        ("offgridd_benchmark_timestamp_seconds", "a"): 1.5e9,
        ("offgridd_benchmark_first_token_seconds", "pp1 + tg2", "a"): 0.5,
        ("offgridd_benchmark_first_token_seconds", 'so "c\\d', "a"): 0.5,
        ("offgridd_benchmark_generation_tokens_per_second", "pp1 + tg2", "a"): 7.25,
    }


def test_without_models_there_is_text_all_the_same() -> None:
    assert read(Metrics(), {}) == {}
