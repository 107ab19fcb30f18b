"""The section `benchmark`: what it means, how defaults and a model share it, and what contradicts itself."""

from __future__ import annotations

import pytest

from offgridd.core.benchmark import BenchmarkSpec, Workload
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.tuned import TUNABLE
from offgridd.manifest import SourceText, accept
from offgridd.manifest.effective import effective


def texts(own: str | None, shared: str | None = None) -> SourceText:
    defaults = f"defaults:\n  benchmark: {shared}\n" if shared is not None else ""
    mine = f"    benchmark: {own}\n" if own is not None else ""
    body = f"apiVersion: offgridd/v1\n{defaults}models:\n  m:\n    source: {{package: p, file: a.gguf}}\n{mine}"
    return SourceText("m.yaml", body.encode())


def spec(own: str | None, shared: str | None = None) -> BenchmarkSpec | None:
    return accept(texts(own, shared)).desired.models["m"].benchmark


def problem(own: str, shared: str | None = None) -> Problem:
    with pytest.raises(ManifestError) as raised:
        accept(texts(own, shared))
    (only,) = raised.value.problems
    return only


def test_without_it_nothing_is_measured_and_an_empty_one_measures_on_change() -> None:
    assert spec(None) is None
    assert spec("{}") == BenchmarkSpec()


def test_a_model_and_the_defaults_are_one_field_by_field() -> None:
    found = spec("{iterations: 7, max_regression: 10%}", "{iterations: 9, depth: [0, 512], when: schedule, every: 12h}")
    assert found is not None
    assert found.workload == Workload(iterations=7, depth=(0, 512))
    assert (found.when, found.every, found.max_regression) == ("schedule", 12 * 3600.0, 0.1)
    values = effective([("m.yaml", texts("{iterations: 7}", "{depth: 5}").text)])
    shown = {v.path[-1]: (v.value, v.origin) for v in values if "benchmark" in v.path}
    assert shown["iterations"] == (7, "m.yaml:7")
    assert shown["depth"] == (5, "defaults at m.yaml:3")
    assert shown["when"] == ("on_change", "default")


def test_a_number_stands_for_a_list_of_one() -> None:
    found = spec("{concurrency: 4, depth: 512}")
    assert found is not None
    assert found.workload.kinds == ((4, 512),)


def test_only_a_hold_that_measures_holds() -> None:
    assert spec("{on_fail: hold, max_ttft: 2s}").holds  # type: ignore[union-attr]
    assert not spec("{on_fail: report, max_ttft: 2s}").holds  # type: ignore[union-attr]
    assert not BenchmarkSpec(when="never", on_fail="hold").holds


@pytest.mark.parametrize(
    ("own", "meant"),
    [("{}", "off"), ("{tune: false}", "off"), ("{tune: true}", "propose"), ("{tune: propose}", "propose"),
     ("{tune: apply}", "apply")],
)  # fmt: skip
def test_tuning_is_searched_or_applied(own: str, meant: str) -> None:
    found = accept(texts(own)).desired.models["m"]
    assert found.tunes == meant
    assert found.tunable == (TUNABLE if meant != "off" else ())


def test_what_is_declared_anywhere_is_not_tunable() -> None:
    text = texts("{tune_time: 10m}", "{tune: apply}").text.decode()
    text = text.replace("defaults:\n", "defaults:\n  cache_type_k: f16\n").replace(
        "    source:", "    threads: 2\n    source:"
    )
    found = accept(SourceText("m.yaml", text.encode())).desired.models["m"]
    assert found.tunable == ("flash_attention", "cache_type_v")
    assert found.benchmark is not None
    assert found.benchmark.tune_time == 600.0


@pytest.mark.parametrize(
    ("own", "reason", "says"),
    [
        ("{max_regression: 0%}", "WrongType", "10%"),
        ("{max_regression: 0.1}", "WrongType", "10%"),
        ("{min_generation_tps: 0}", "InvalidValue", "min_generation_tps"),
        ("{min_generation_tps: .inf}", "WrongType", "min_generation_tps"),
        ("{iterations: 0}", "InvalidValue", "iterations"),
        ("{concurrency: [1, 1]}", "InvalidValue", "differ"),
        ("{concurrency: []}", "InvalidValue", "concurrency"),
        ("{depth: [-1]}", "InvalidValue", "depth"),
        ("{when: daily}", "InvalidValue", "on_change"),
        ("{threshold: 1}", "UnknownField", "known here are"),
        ("{on_fail: hold}", "ConflictingFields", "nothing says what is worse"),
        ("{on_fail: hold, when: never, max_ttft: 1s}", "ConflictingFields", "nothing is measured"),
        ("{tune: sometimes}", "InvalidValue", "propose"),
        ("{tune: 1}", "WrongType", "propose"),
        ("{tune: true, when: never}", "ConflictingFields", "nothing is measured"),
        ("{tune_time: 0s}", "InvalidValue", "at least 1s"),
        ("{iterations: 3, max_regression: 10%}", "ConflictingFields", "no difference from noise"),
        ("{prompt_tokens: 0}", "ConflictingFields", "there must be a depth"),
        ("{prompt_tokens: 0, depth: 5, max_ttft: 1s}", "ConflictingFields", "no prompt to time"),
        ("{output_tokens: 1, min_generation_tps: 5}", "ConflictingFields", "too short to time"),
        ("{depth: [1, 2, 3, 4, 5], concurrency: [1, 2, 3, 4]}", "ConflictingFields", "16 kinds"),
    ],
)
def test_what_is_refused(own: str, reason: str, says: str) -> None:
    found = problem(own)
    assert found.reason == reason
    assert says in found.message


def test_a_contradiction_is_shown_where_it_was_written() -> None:
    found = problem("{max_regression: 10%}", "{iterations: 3}")
    assert (found.reason, found.line) == ("ConflictingFields", 3)
