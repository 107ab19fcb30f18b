"""A request shows in /metrics and /v1/status; a new limit of the cache reaches the worker that serves."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.rig import Rig, until


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("metrics"), "fake")
    made.write()
    made.start()
    until(made.pids)
    yield made
    assert made.stop() == 0
    made.api.close()


def samples(rig: Rig) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/metrics", timeout=20) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = response.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def model(rig: Rig) -> dict[str, Any]:
    (found,) = rig.status()["models"]
    return dict(found)


def ask(rig: Rig, text: str, count: int = 7) -> int:
    """Tokens of the prompt."""
    made = rig.api.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": text}], max_tokens=count, temperature=0
    )
    assert made.usage is not None
    assert made.usage.completion_tokens == count
    return made.usage.prompt_tokens


def kept(rig: Rig) -> int:
    return int(model(rig)["serving"]["cacheBytes"])


def test_a_request_that_was_made_shows_in_metrics_and_in_status(rig: Rig) -> None:
    assert samples(rig)["offgridd_model_ready", "smol"] == 1
    prompt = ask(rig, "a question of some length")
    until(lambda: samples(rig).get(("offgridd_requests_total", "smol", "length")) == 1)
    found = samples(rig)
    assert found["offgridd_generated_tokens_total", "smol"] == 7
    assert found["offgridd_prompt_tokens_total", "smol", "computed"] == prompt
    assert found["offgridd_prompt_tokens_total", "smol", "cached"] == 0
    assert found["offgridd_first_token_seconds_count", "smol"] == 1
    assert found["offgridd_inter_token_seconds_count", "smol"] == 6
    assert (found["offgridd_running", "smol"], found["offgridd_threads", "smol"]) == (0, 1)
    serving = model(rig)["serving"]
    assert (serving["requests"], serving["generatedTokens"], serving["promptTokens"]) == ({"length": 1}, 7, prompt)
    assert (serving["running"], serving["batchFill"], serving["cacheTokens"]) == (0, 1.0, prompt + 6)
    ask(rig, "a question of some length")
    until(lambda: model(rig)["serving"]["requests"] == {"length": 2})
    assert model(rig)["serving"]["cachedTokens"] == prompt - 1


def test_tokens_of_prompts_are_computed_or_cached(rig: Rig) -> None:
    prompts = [ask(rig, "the same question") for _ in range(2)]
    until(lambda: samples(rig).get(("offgridd_requests_total", "smol", "length")) == 2)
    found = samples(rig)
    assert sum(found["offgridd_prompt_tokens_total", "smol", source] for source in ("computed", "cached")) == sum(
        prompts
    )


def test_a_new_limit_of_the_cache_needs_no_new_worker(rig: Rig) -> None:
    (pid,) = rig.pids()
    ask(rig, "what is kept of this " * 5)
    until(lambda: kept(rig))
    rig.write(more="    cache: {ram: 0}\n")
    until(lambda: model(rig)["declared"]["cacheRam"] == 0)
    until(lambda: kept(rig) == 0)
    ask(rig, "and nothing is of this " * 5)
    until(lambda: model(rig)["serving"]["requests"] == {"length": 2})
    assert (kept(rig), rig.pids(), rig.is_ready()) == (0, [pid], True)
    rig.write(more="    cache: {ram: 1MiB}\n")
    until(lambda: model(rig)["declared"]["cacheRam"] == 1 << 20)
    ask(rig, "but of this again " * 5)
    until(lambda: kept(rig))
    assert rig.pids() == [pid]


def test_a_new_worker_begins_with_what_is_declared(rig: Rig) -> None:
    (pid,) = rig.pids()
    rig.write(context=1024, more="    cache: {ram: 0}\n")
    until(lambda: rig.is_ready() and rig.pids() and pid not in rig.pids())
    before = model(rig)["serving"]["requests"]
    ask(rig, "nothing is kept of this " * 5)
    until(lambda: model(rig)["serving"]["requests"] != before)
    assert kept(rig) == 0


def test_a_suspended_model_keeps_its_limit(rig: Rig) -> None:
    ask(rig, "what is kept of this " * 5)
    until(lambda: kept(rig))
    (pid,), generation = rig.pids(), rig.status()["generation"]
    rig.write(more="    cache: {ram: 0}\n    suspend: true\n")
    until(lambda: rig.status()["observedGeneration"] > generation)
    ask(rig, "and of this too " * 5)
    until(lambda: model(rig)["serving"]["requests"] == {"length": 2})
    assert kept(rig) > 0
    assert rig.pids() == [pid]


def test_what_came_of_the_last_reload_is_a_metric(rig: Rig) -> None:
    good = rig.manifest.read_text()
    assert gauge(rig, "config_last_reload_successful") == 1
    assert abs(gauge(rig, "config_last_reload_success_timestamp_seconds") - time.time()) < 3600
    generation = gauge(rig, "config_generation")
    new = rig.manifest.with_suffix(".new")
    new.write_text("models: [")
    new.rename(rig.manifest)
    until(lambda: gauge(rig, "config_last_reload_successful") == 0)
    assert gauge(rig, "config_generation") == generation
    new.write_text(good)
    new.rename(rig.manifest)
    until(lambda: gauge(rig, "config_last_reload_successful") == 1)
    assert 0 < gauge(rig, "memory_taken_bytes") < gauge(rig, "memory_budget_bytes")


def gauge(rig: Rig, name: str) -> float:
    with rig.admin.open("GET", "/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"offgridd_{name} "))
