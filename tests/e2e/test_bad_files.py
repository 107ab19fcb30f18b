"""All bad files in one manifest: each ends with its verdict, and the daemon and its good model do not notice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import badfiles
from support.rig import Rig, until

from offgridd.effects.worker import LOAD_DEADLINE

WORKER_REASONS = {"LoadFailed", "WorkerCrashed", "CrashLoop"}
# expected verdict -> the reasons that agree with it: the reader's, the worker's, or the request's code
AGREES = {
    "not-regular": {"NotARegularFile"},
    "not-gguf": {"NotGGUF"},
    "unsupported": {"UnsupportedVersion"},
    "malformed": {"MalformedGGUF"},
    "truncated": {"Truncated"},
    "model": {"InvalidModel", *WORKER_REASONS},
    "accept": {"answered"},
    "template": {"template_error"},
}


def key_of(file: str) -> str:
    return file.removesuffix(".gguf").replace("_", "-")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, env={"OFFGRIDD_STORE_ROOTS": json.dumps([str(tmp_path)])})
    lines = ["apiVersion: offgridd/v1", f"server: {{listen: ['127.0.0.1:{made.port}']}}", "models:"]
    for name, _, _, build in badfiles.CASES:
        badfiles.write(str(tmp_path), name, build)
        preload = str(name == "control_good.gguf").lower()
        lines.append(f"  {key_of(name)}: {{source: {{file: {tmp_path / name}}}, threads: 1, preload: {preload}}}")
    made.manifest.write_text("\n".join(lines) + "\n")
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def verified(rig: Rig) -> dict[str, dict[str, Any]]:
    """Each model's Verified condition; empty as long as one of them is not decided."""
    found = {m["name"]: next(c for c in m["conditions"] if c["type"] == "Verified") for m in rig.status()["models"]}
    return found if all(c["status"] != "Unknown" for c in found.values()) else {}


def ask(rig: Rig, model: str) -> tuple[str, str]:
    """What became of a request: "answered", the worker's reason or the error's code; and its message."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with rig.admin.any("POST", "/v1/chat/completions", json.dumps(body).encode()) as response:
        said = json.loads(response.read())
    if "error" not in said:
        return "answered", said["choices"][0]["message"]["content"]
    message, code = said["error"]["message"], said["error"]["code"]
    return (message.split(": ")[1] if code == "model_not_ready" else code), message


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.timeout(300)
def test_each_of_95_bad_files_ends_with_its_verdict(rig: Rig) -> None:
    (good,) = rig.pids()
    assert rig.process is not None
    conditions = until(lambda: verified(rig))
    rows = []
    for name, expect, _, _ in badfiles.CASES:
        seen, began = conditions[key_of(name)], time.monotonic()
        by, reason, message = "reader", seen["reason"], seen["message"]
        if seen["status"] == "True":
            by, (reason, message) = "worker", ask(rig, key_of(name))
        rows.append((name, expect, by, reason, time.monotonic() - began))
        print(f"{name:<36} {expect:<12} {by} {reason:<18} {rows[-1][4]:5.1f} s  {message[:90]!r}")
        assert "SSTI-" not in message, "no template code ran"
        if expect != "accept":  # a good file of random weights may say anything
            assert "\x1b" not in message
    print(f"{len(rows)} files; the daemon used {cpu_of(rig.process.pid):.2f} s of CPU since its start")
    assert len(rows) == 95
    assert [r for r in rows if r[3] not in AGREES[r[1]]] == []
    assert [r for r in rows if r[4] > LOAD_DEADLINE + 1] == []
    assert good in rig.pids()
    assert ask(rig, "control-good")[0] == "answered"


def test_a_verdict_fits_no_other_expectation() -> None:
    """A swapped verdict fails the test above: no reason agrees with two expectations."""
    every = [reason for reasons in AGREES.values() for reason in reasons]
    assert len(every) == len(set(every))
