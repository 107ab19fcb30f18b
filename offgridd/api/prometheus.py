"""The metrics as Prometheus reads them. One door to its client library, which is imported at the first question.

Labels are bounded: `model` is a declared name, `outcome` and `source` are words of ours, `kind` is a label of
the newest benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from offgridd.api.metrics import Totals
from offgridd.engine.wire import BOUNDS

_GAUGES = {
    "running": "Requests that have a slot.",
    "waiting": "Requests that wait for a slot.",
    "parked": "Requests that are moved to host memory for want of cells.",
    "cells_used": "Tokens in the cache of the context.",
    "cache_bytes": "Host memory taken by finished prefixes, in bytes.",
    "cache_tokens": "Tokens of finished prefixes that are kept.",
    "shelf_bytes": "Bytes of finished prefixes on disk.",
    "threads": "Threads that compute.",
    "own_bytes": "Memory of the workers' own, in bytes.",
    "own_peak_bytes": "The most that it was.",
    "mapped_bytes": "Pages of the file that are in memory, in bytes.",
}
_WHOLE = {
    "config_last_reload_successful": "Whether the newest manifest was accepted.",
    "config_last_reload_success_timestamp_seconds": "When a manifest was accepted last, in seconds since the epoch.",
    "config_generation": "The generation that is desired.",
    "memory_budget_bytes": "What models may take of the RAM.",
    "memory_taken_bytes": "What the workers are charged with of it.",
}
# Of the newest benchmark: the figure, its gauge, and what that says.
_MEASURED = {
    "prompt_tps": (
        "prompt_tokens_per_second",
        "Prompt tokens a second in the newest benchmark: a median.",
    ),
    "generation_tps": ("generation_tokens_per_second", "Tokens of answers a second in it."),
    "ttft": ("first_token_seconds", "Seconds to the first token in it."),
}
_SPREADS = {
    "queue": "Seconds from the arrival of a request at its worker until it had a slot.",
    "prefill": "Seconds from there to its first token.",
    "first_token": "Seconds from its arrival to its first token.",
    "inter_token": "Seconds between two tokens of an answer.",
}

_Records = Mapping[str, Mapping[str, Any]]


class _Families(Collector):
    def __init__(
        self, totals: Mapping[str, Totals], ready: Mapping[str, bool], whole: Mapping[str, float], measured: _Records
    ) -> None:
        self._totals, self._ready, self._whole, self._measured = totals, ready, whole, measured

    def collect(self) -> Iterator[Metric]:
        for name, text in _WHOLE.items():
            if name in self._whole:
                yield GaugeMetricFamily(f"offgridd_{name}", text, value=self._whole[name])
        ready = GaugeMetricFamily(
            "offgridd_model_ready", "Whether the model's Ready condition is True.", labels=["model"]
        )
        for name, value in self._ready.items():
            ready.add_metric([name], float(value))
        yield ready
        yield from self._counters()
        yield from self._benchmarks()
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"offgridd_{name}", text, labels=["model"])
            for model, totals in self._totals.items():
                gauge.add_metric([model], getattr(totals.now, name))
            yield gauge
        for name, text in _SPREADS.items():
            histogram = HistogramMetricFamily(f"offgridd_{name}_seconds", text, labels=["model"])
            for model, totals in self._totals.items():
                if name in totals.spreads:
                    spread = totals.spreads[name]
                    histogram.add_metric([model], _buckets(spread.counts), spread.total)
            yield histogram

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "offgridd_requests", "Requests that ended, by outcome.", labels=["model", "outcome"]
        )
        prompt = CounterMetricFamily(
            "offgridd_prompt_tokens", "Tokens of prompts, computed or found in a cache.", labels=["model", "source"]
        )
        made = CounterMetricFamily("offgridd_generated_tokens", "Tokens of answers.", labels=["model"])
        steps = CounterMetricFamily("offgridd_steps", "Decodes of a token for each running request.", labels=["model"])
        rows = CounterMetricFamily(
            "offgridd_step_rows", "Tokens in them; divided by the steps it is the batch's fill.", labels=["model"]
        )
        shelf = CounterMetricFamily("offgridd_shelf_hits", "Prefixes brought back from disk.", labels=["model"])
        guessed = CounterMetricFamily(
            "offgridd_guessed_tokens", "Tokens that were guessed, by what came of them.", labels=["model", "outcome"]
        )
        for model, totals in self._totals.items():
            shelf.add_metric([model], totals.shelf_hits)
            guessed.add_metric([model, "held"], totals.held)
            guessed.add_metric([model, "dropped"], totals.guessed - totals.held)
            for outcome, count in totals.ends.items():
                requests.add_metric([model, outcome], count)
            prompt.add_metric([model, "computed"], totals.prompt_tokens)
            prompt.add_metric([model, "cached"], totals.cached_tokens)
            made.add_metric([model], totals.generated)
            steps.add_metric([model], totals.steps)
            rows.add_metric([model], totals.step_rows)
        return iter((requests, prompt, made, steps, rows, guessed, shelf))

    def _benchmarks(self) -> Iterator[Metric]:
        """A kind that was disturbed says nothing."""
        when = GaugeMetricFamily(
            "offgridd_benchmark_timestamp_seconds", "When the newest benchmark began.", labels=["model"]
        )
        for model, record in self._measured.items():
            when.add_metric([model], record["started"])
        yield when
        for figure, (name, text) in _MEASURED.items():
            gauge = GaugeMetricFamily(f"offgridd_benchmark_{name}", text, labels=["model", "kind"])
            for model, record in self._measured.items():
                for result in record["results"]:
                    if figure in result and not result["disturbed"]:
                        gauge.add_metric([model, result["label"]], result[figure]["median"])
            yield gauge


def exposition(
    totals: Mapping[str, Totals], ready: Mapping[str, bool], whole: Mapping[str, float] | None = None,
    measured: _Records | None = None,
) -> bytes:  # fmt: skip
    """The text format, version 0.0.4. `whole`: values that are no model's, by the names in _WHOLE.

    `measured`: the newest benchmark of each model that has one.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(totals, ready, whole or {}, measured or {}))
    return generate_latest(registry)


def _buckets(counts: Iterable[int]) -> list[tuple[str, float]]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))
