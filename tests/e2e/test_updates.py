"""What is newer at the hub is seen by schedule and on demand, and taken only when somebody says so."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
OLD = model(spec=CONTROL)
NEW = OLD + bytes(64)
SHORT = model(spec=replace(CONTROL, context_length=32))  # less than is declared


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: OLD, "README.md": b"# Tiny\n"})
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, endpoint: str, more: str = "", server: str = "") -> None:
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
defaults: {{endpoint: "{endpoint}", context: 64}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{hf: {REPO}}}{more}}}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, "--host", str(rig.socket), *args], capture_output=True, text=True, timeout=60)


def up_to_date(rig: Rig) -> tuple[str, str]:
    shown, *_ = rig.status()["models"]
    return next((c["status"], c["reason"]) for c in shown["conditions"] if c["type"] == "UpToDate")


def runs(rig: Rig) -> str:
    shown, *_ = rig.status()["models"]
    found: str = shown["file"]["sha256"]
    return found


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_newer_is_told_by_schedule_and_taken_when_told_to(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, ", check_every: 1s")
    rig.start()
    until(rig.is_ready)
    until(lambda: up_to_date(rig) == ("True", "Current"))
    hub.put(REPO, {"README.md": b"# Other\n"})
    done = offgrid(rig, "outdated")
    assert done.returncode == 0
    assert "the same files" in done.stdout
    with rig.admin.open("GET", "/v1/events") as events:
        assert events.readline() == b": connected\n"
        hub.put(REPO, {FILE: NEW})
        event = next(json.loads(line[6:]) for line in events if line.startswith(b"data: "))
    said = {key: event[key] for key in ("model", "type", "status", "reason")}
    assert said == {"model": "tiny", "type": "UpToDate", "status": "False", "reason": "UpdateAvailable"}
    assert up_to_date(rig) == ("False", "UpdateAvailable")
    assert rig.is_ready()
    assert runs(rig) == sha(OLD), "nothing moves by itself"
    known = offgrid(rig, "outdated", "--known", "--json")
    assert known.returncode == 6
    (row,) = json.loads(known.stdout)
    assert (row["outdated"], row["newer"]["files"], row["newer"]["size"]) == (True, [FILE], len(NEW))
    pids = rig.pids()
    done = offgrid(rig, "update", "tiny")
    assert (done.returncode, done.stdout) == (0, "updated tiny\n")
    until(lambda: runs(rig) == sha(NEW) and rig.is_ready() and rig.pids() not in ([], pids))
    assert up_to_date(rig) == ("True", "Current")
    assert offgrid(rig, "update").stdout == "tiny is up to date\n"
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)
    assert runs(rig) == sha(NEW), "and it stays"


def test_a_file_that_has_only_another_name_is_nothing_newer(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, ", updates: manual")
    rig.start()
    until(rig.is_ready)
    (hub.folder / REPO / FILE).unlink()
    hub.put(REPO, {f"gguf/{FILE}": OLD})
    done = offgrid(rig, "outdated", "--json")
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["outdated"], row["head"] != row["pinned"]["commit"]) == (0, False, True)


def test_a_failed_update_leaves_the_model_as_it_was(rig: Rig, hub: Local) -> None:
    """What is newer is no model, or does not come: the old one serves on, also after a restart."""
    declare(rig, hub.base, ", updates: manual")
    rig.start()
    until(rig.is_ready)
    assert up_to_date(rig) == ("Unknown", "Manual")
    pids = rig.pids()
    hub.put(REPO, {FILE: b"no model at all" * 100})
    assert offgrid(rig, "outdated").returncode == 6
    done = offgrid(rig, "update")
    assert (done.returncode, done.stdout) == (1, "")
    assert "NotGGUF" in done.stderr
    assert (rig.is_ready(), rig.pids(), runs(rig)) == (True, pids, sha(OLD))
    declare(rig, "http://127.0.0.1:9", ", updates: manual")
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    done = offgrid(rig, "update", "tiny")
    assert done.returncode == 5
    assert offgrid(rig, "outdated").returncode == 5
    assert (rig.is_ready(), rig.pids()) == (True, pids)
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)
    assert runs(rig) == sha(OLD)


def test_it_serves_while_an_update_comes_and_kill_9_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    with local_hub(tmp_path / "slow", rate=256 << 10) as slow:
        slow.put(REPO, {FILE: OLD})
        declare(rig, slow.base, ", updates: manual")
        rig.start()
        until(rig.is_ready)
        slow.put(REPO, {FILE: OLD + os.urandom(24 << 20)})
        with subprocess.Popen(
            [OFFGRID, "--host", str(rig.socket), "update"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            until(lambda: [j for j in rig.admin.json("GET", "/v1/jobs")["jobs"] if j["bytes"]])
            assert rig.is_ready()
            assert rig.api.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
            ).choices
            rig.kill()
            process.communicate(timeout=30)
        rig.start()
        until(rig.is_ready)
        assert runs(rig) == sha(OLD)


def test_what_is_fixed_locked_offline_or_suspended_is_left_alone(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, f", sha256: {sha(OLD)}")
    rig.start()
    until(rig.is_ready)
    assert up_to_date(rig) == ("True", "Fixed")
    hub.put(REPO, {FILE: NEW})
    assert "its sha256 is declared" in offgrid(rig, "outdated").stdout
    assert "its sha256 is declared" in offgrid(rig, "update", "tiny").stderr
    declare(rig, hub.base)
    until(lambda: up_to_date(rig) != ("True", "Fixed") and rig.is_ready())
    declare(rig, hub.base, server=", offline: true")
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    done = offgrid(rig, "outdated", "--json")
    assert (done.returncode, json.loads(done.stdout)[0]["error"]["code"]) == (5, "Offline")
    declare(rig, hub.base, ", suspend: true")
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    assert "it is suspended" in offgrid(rig, "update", "tiny").stderr
    declare(rig, hub.base)
    subprocess.run([OFFGRID, "--host", str(rig.socket), "lock", str(rig.manifest)], check=True, timeout=30)
    until(lambda: not rig.admin.json("POST", "/v1/reload")["changed"])
    assert "offgrid lock --update tiny" in offgrid(rig, "update", "tiny").stderr


def test_bad_questions(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    assert offgrid(rig, "outdated", "nosuch").returncode == 1
    assert offgrid(rig, "update", "nosuch").returncode == 1
    for path in ("/v1/outdated?x=1", "/v1/outdated?known=perhaps"):
        assert rig.admin.any("GET", path).status == 400
    for body in (b"{", b'{"models": "tiny"}', b'{"models": [1]}'):
        assert rig.admin.any("POST", "/v1/update", body).status == 400
    answer = httpx2.post(f"http://127.0.0.1:{rig.port}/v1/update", json={})
    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (403, "admin_only")
    assert httpx2.get(f"http://127.0.0.1:{rig.port}/v1/outdated?known=1").status_code == 200


def test_what_is_newer_is_taken_by_itself_and_given_back_where_it_does_not_load(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base, ", updates: auto, check_every: 1s")
    rig.start()
    until(rig.is_ready)
    pids = rig.pids()
    hub.put(REPO, {FILE: NEW})
    until(lambda: up_to_date(rig) == ("True", "Current") and runs(rig) == sha(NEW))
    assert rig.is_ready()
    assert rig.pids() not in ([], pids)
    kept = rig.pids()
    hub.put(REPO, {FILE: SHORT})
    until(lambda: up_to_date(rig) == ("False", "UpdateRejected"))
    until(lambda: rig.is_ready() and runs(rig) == sha(NEW))
    assert rig.pids() == kept, "it never left"
    (shown,) = rig.status()["models"]
    assert any("ContextTooLong" in c["message"] for c in shown["conditions"] if c["type"] == "UpToDate")
    assert rig.stop() == 0
    rig.start()
    until(rig.is_ready)
    assert runs(rig) == sha(NEW), "nor is it tried again after a restart"
    assert up_to_date(rig) == ("False", "UpdateRejected")
    hub.put(REPO, {FILE: OLD})
    until(lambda: up_to_date(rig) == ("True", "Current") and runs(rig) == sha(OLD))


def test_what_is_newer_and_found_no_room_is_tried_again(rig: Rig, hub: Local) -> None:
    firm = "pin: true, cache: {ram: 0}"
    more = f", updates: auto, check_every: 1s, {firm}}}, z: {{source: {{hf: {REPO}}}, updates: manual, {firm}"
    declare(rig, hub.base, more, ", memory: {ram: 350MB}")
    rig.start()
    until(rig.is_ready)
    declare(rig, hub.base, more, ", memory: {ram: 150MB}")  # each would fit without the other
    rig.admin.json("POST", "/v1/reload")
    hub.put(REPO, {FILE: NEW})
    until(lambda: "InsufficientMemory" in why_not_newer(rig))
    until(lambda: rig.is_ready() and runs(rig) == sha(OLD))
    declare(rig, hub.base, more, ", memory: {ram: 350MB}")
    rig.admin.json("POST", "/v1/reload")
    until(lambda: up_to_date(rig) == ("True", "Current") and runs(rig) == sha(NEW))


def why_not_newer(rig: Rig) -> str:
    shown, *_ = rig.status()["models"]
    return next(str(c["message"]) for c in shown["conditions"] if c["type"] == "UpToDate")


def test_nothing_is_taken_by_itself_beside_a_lock(rig: Rig, hub: Local) -> None:
    declare(rig, hub.base)
    rig.start()
    until(rig.is_ready)
    assert offgrid(rig, "lock", str(rig.manifest)).returncode == 0
    declare(rig, hub.base, ", updates: auto")
    done = offgrid(rig, "reload")
    assert done.returncode == 1
    assert "cannot use 'updates: auto' for 'tiny': there is a lock" in done.stderr
