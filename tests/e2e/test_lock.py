"""`offgridd.lock`: made by `offgrid lock`, obeyed to the letter by the daemon, checked without either."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO = "acme/Tiny-GGUF"
OLD = model(spec=CONTROL)
NEW = OLD + bytes(64)  # the same model, other bytes


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {"tiny-Q8_0.gguf": OLD, "tiny-Q4_K_M.gguf": OLD + b"\0", "README.md": b"# Tiny\n"})
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake", {"OUR_TOKEN": "hf_granted"})
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, endpoint: str, models: str = f"tiny: {{source: {{hf: {REPO}}}, quant: Q8_0}}") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{endpoint}", context: 64}}
store: {{min_free: 0}}
models: {{{models}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def lock(rig: Rig, *args: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), "lock", str(file or rig.manifest), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def text_of(rig: Rig) -> bytes:
    return (rig.manifest.parent / "offgridd.lock").read_bytes()


def condition(rig: Rig, kind: str, name: str = "tiny") -> tuple[str, str] | None:
    """None where no such model is declared."""
    shown = next((m for m in rig.status()["models"] if m["name"] == name), {"conditions": []})
    return next(((c["status"], c["reason"]) for c in shown["conditions"] if c["type"] == kind), None)


def runs(rig: Rig) -> str | None:
    """The sha256 of what serves."""
    (shown,) = rig.status()["models"]
    return shown["file"] and shown["file"]["sha256"] if shown["workers"] else None


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_lock_holds_what_the_hub_moved_until_it_is_updated(rig: Rig, hub: Local, tmp_path: Path) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    done = lock(rig)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("added tiny: tiny-Q8_0.gguf")
    first = text_of(rig)
    until(lambda: condition(rig, "Resolved") == ("True", "Locked"))
    pids, generation = rig.pids(), rig.status()["generation"]
    hub.put(REPO, {"tiny-Q8_0.gguf": NEW})
    assert lock(rig).stdout == "nothing has changed\n"
    assert text_of(rig) == first, "byte for byte"
    other = tmp_path / "other" / "m.yaml"
    other.parent.mkdir()
    shutil.copy(rig.manifest, other)
    shutil.copy(rig.manifest.parent / "offgridd.lock", other.parent)
    assert lock(rig, "--update", "tiny", file=other).stdout.startswith("updated tiny: tiny-Q8_0.gguf")
    moved = (other.parent / "offgridd.lock").read_bytes()
    assert moved != first
    assert (rig.pids(), rig.status()["generation"], runs(rig)) == (pids, generation, sha(OLD))
    os.replace(other.parent / "offgridd.lock", rig.manifest.parent / "offgridd.lock")
    until(lambda: runs(rig) == sha(NEW))
    until(rig.is_ready)
    assert lock(rig, "--update").stdout == "nothing has changed\n"
    assert text_of(rig) == moved


def test_a_fresh_machine_gets_what_is_locked_and_not_what_is_new(rig: Rig, hub: Local) -> None:
    """The hub has moved on, the lock has not; only bytes of the lock are fetched."""
    declare(rig, hub.base)
    rig.start()
    assert lock(rig).returncode == 0
    assert rig.stop() == 0
    shutil.rmtree(rig.folder / "state")
    hub.put(REPO, {"README.md": b"# Other\n"})
    rig.start()
    until(rig.is_ready)
    assert runs(rig) == sha(OLD)
    assert condition(rig, "Resolved") == ("True", "Locked")
    (shown,) = rig.admin.json("GET", "/v1/list")["files"]
    assert (shown["model"], shown["here"]) == ("tiny", True)


def test_what_the_lock_does_not_answer_is_not_guessed(rig: Rig, hub: Local) -> None:
    two = f"tiny: {{source: {{hf: {REPO}}}, quant: Q8_0}}, more: {{source: {{hf: {REPO}}}}}"
    declare(rig, hub.base)
    rig.start()
    assert lock(rig).returncode == 0
    until(rig.is_ready)
    pids = rig.pids()
    declare(rig, hub.base, two)
    until(lambda: condition(rig, "Resolved", "more") == ("False", "NotLocked"))
    assert rig.pids() == pids
    check = lock(rig, "--check")
    assert (check.returncode, check.stdout) == (1, "")
    assert "offgridd.lock does not name it" in check.stderr
    declare(rig, hub.base, two.replace("Q8_0", "Q4_K_M"))
    until(lambda: condition(rig, "Resolved") == ("False", "LockOutdated"))
    assert rig.pids() == pids, "what served goes on"
    asked = hub.seen.sent[""]
    assert lock(rig).returncode == 0
    until(rig.is_ready)
    assert runs_all(rig) == {"tiny": sha(OLD + b"\0"), "more": sha(OLD + b"\0")}
    assert hub.seen.sent[""] > asked
    assert lock(rig, "--check").returncode == 0


def runs_all(rig: Rig) -> dict[str, Any]:
    return {m["name"]: m["file"] and m["file"]["sha256"] for m in rig.status()["models"]}


def test_check_needs_neither_daemon_nor_network(rig: Rig) -> None:
    declare(rig, "http://127.0.0.1:9")
    assert "run offgrid lock" in lock(rig, "--check").stderr
    path = rig.manifest.parent / "offgridd.lock"
    path.write_text("lockVersion: 1\nmodels: {}\n")
    done = lock(rig, "--check", "--json")
    assert done.returncode == 1
    assert "does not name it" in json.loads(done.stdout)["differences"][0]
    path.write_text("lockVersion: 1\nmodels: {\n")
    assert "cannot read this as YAML" in lock(rig, "--check").stderr


def test_a_lock_that_can_not_be_made_whole_is_not_made(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    declare(rig, hub.base, f"tiny: {{source: {{hf: {REPO}}}, quant: Q8_0}}, b: {{source: {{hf: acme/none}}}}")
    done = lock(rig)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot lock b: " in done.stderr
    assert not (rig.manifest.parent / "offgridd.lock").exists()
    declare(rig, "http://127.0.0.1:9")
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    done = lock(rig)
    assert done.returncode == 5, "the network"
    assert "cannot lock tiny: " in done.stderr
    assert not (rig.manifest.parent / "offgridd.lock").exists()
    for update in ("nosuch", "x\x1b[2J"):
        assert "declares no model of a hub" in lock(rig, "--update", update).stderr


def test_a_manifest_that_is_not_valid_is_not_locked(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    rig.manifest.write_text(rig.manifest.read_text().replace("models:", "modles:"))
    done = lock(rig)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    assert done.stderr.startswith("offgrid: cannot lock: ")
    assert not (rig.manifest.parent / "offgridd.lock").exists()


def test_a_bad_lock_keeps_the_last_good_state(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    assert lock(rig).returncode == 0
    until(rig.is_ready)
    pids, path = rig.pids(), rig.manifest.parent / "offgridd.lock"
    good = path.read_text()
    path.write_text(good.replace("lockVersion: 1", "lockVersion: 9"))
    until(lambda: rig.status()["conditions"][0]["status"] == "False")
    assert rig.status()["conditions"][0]["reason"] == "InvalidLock"
    assert rig.pids() == pids
    path.write_text(good)
    until(lambda: rig.status()["conditions"][0]["status"] == "True")
    path.unlink()
    until(lambda: condition(rig, "Resolved") == ("True", "Pinned"))
    assert runs(rig) == sha(OLD), "what was locked is what stays pinned"


def test_a_manifest_of_anybody_takes_no_secret_and_calls_on_nobody(rig: Rig, hub: Local) -> None:
    """Over TCP anybody on this machine may ask; the admin socket's users are no readers of the daemon's secrets."""
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)

    def ask(endpoint: str, more: str, host: str) -> int:
        text = f"apiVersion: offgridd/v1\nmodels: {{a: {{source: {{hf: {REPO}}}, endpoint: '{endpoint}'{more}}}}}\n"
        body = json.dumps({"files": [{"name": "m", "text": text}]}).encode()
        if host == "admin":
            return int(rig.admin.any("POST", "/v1/lock", body).status)
        connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=30)
        connection.request("POST", "/v1/lock", body, {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    other = hub.base.replace("127.0.0.1", "localhost")
    assert ask(hub.base, "", "tcp") == 200
    assert ask(other, "", "tcp") == 403
    assert ask(other, "", "admin") == 200
    before = len(hub.seen.requests)
    for host in ("tcp", "admin"):
        assert ask(hub.base, ", token: {env: OUR_TOKEN}", host) == 403
        assert ask(hub.base, ", token: {file: /etc/hostname}", host) == 403
    assert len(hub.seen.requests) == before


def test_a_lock_that_can_not_be_read_is_told_in_a_line(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    assert lock(rig).returncode == 0
    merging = b"<<<<<<< HEAD\n" + text_of(rig)
    apart = rig.folder / "apart"  # the daemon has no part in it
    apart.mkdir()
    shutil.copy(rig.manifest, apart)
    (apart / "offgridd.lock").write_bytes(merging)
    for how in ((), ("--update",), ("--check",)):
        done = lock(rig, *how, file=apart / "offgridd.yaml")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "offgridd.lock:3:1: cannot read this as YAML" in done.stderr
    assert (apart / "offgridd.lock").read_bytes() == merging
