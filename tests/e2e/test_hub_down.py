"""A hub that takes the connection and says nothing: what works goes on, and what needs it says so soon."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hubs import local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO = "acme/Tiny-GGUF"
SOON = 15.0  # seconds; the hub is given 4, the rest is for a busy machine


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A model was fetched and another one pulled while the hub was there."""
    made = Rig(tmp_path, "fake")
    with local_hub(tmp_path / "hub") as hub:
        hub.put(REPO, {"tiny-Q8_0.gguf": model(spec=CONTROL)})
        hub.put("acme/Pulled-GGUF", {"pulled-Q8_0.gguf": model(spec=CONTROL) + bytes(32)})
        declare(made, hub.base)
        made.start()
        until(made.is_ready)
        assert offgrid(made, "pull", "acme/Pulled-GGUF").returncode == 0
        assert offgrid(made, "search", "acme").returncode == 0
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, endpoint: str, more: str = "") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{endpoint}", context: 64}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{hf: {REPO}}}}}{more}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def offgrid(rig: Rig, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)


def test_what_was_known_works_on_and_the_rest_says_so_soon(rig: Rig, silent: str) -> None:
    declare(rig, silent)
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)
    assert offgrid(rig, "run", "tiny", text="Hi").stdout.strip()
    assert offgrid(rig, "run", "pulled-Q8_0.gguf", text="Hi").stdout.strip()
    assert offgrid(rig, "status").returncode == 0
    for number, args in enumerate(
        (
            ["pull", "acme/New-GGUF"],
            ["outdated"],
            ["lock", str(rig.manifest), "--update"],
            ["inspect", "acme/New-GGUF"],
            ["update"],
            ["search", "nosuchname"],
        )
    ):
        began = time.monotonic()
        done = offgrid(rig, *args)
        took = time.monotonic() - began
        assert done.returncode == 5, (args, done.stderr)
        assert took < SOON, args
        print(f"{args[0]}: {took:.1f} s{' (the first)' if not number else ''}")
    found = offgrid(rig, "search", "acme")
    assert (found.returncode, "from the catalogue" in found.stdout) == (0, True)
    assert (rig.is_ready(), len(rig.pids()) >= 1) == (True, True)


def test_what_is_declared_anew_waits_and_comes_when_the_hub_does(rig: Rig, silent: str, tmp_path: Path) -> None:
    more = f", more: {{source: {{hf: acme/More-GGUF}}, endpoint: '{silent}'}}"
    declare(rig, silent, more)

    def reason() -> str:
        shown = next((m for m in rig.status()["models"] if m["name"] == "more"), {"conditions": []})
        return next((c["reason"] for c in shown["conditions"] if c["type"] == "Resolved"), "")

    until(lambda: reason() == "HubTimeout")
    assert rig.ready(), "it waits for the network: the service is up"
    with local_hub(tmp_path / "again") as hub:
        hub.put("acme/More-GGUF", {"more-Q8_0.gguf": model(spec=CONTROL) + bytes(96)})
        declare(rig, silent, more.replace(silent, hub.base))
        until(rig.is_ready)
