"""Killed at each failpoint, the daemon converges when it is started again, and has lost nothing it had said."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.hubs import local_hub
from support.rig import FILE_PATH, Rig, until
from support.tinymodel import CONTROL, model

import offgridd

CALL = re.compile(r'\bfailpoint\(\s*"([^"]+)"\s*\)')
SOURCES = Path(offgridd.__file__).parent
NAMES = sorted({name for path in SOURCES.rglob("*.py") for name in CALL.findall(path.read_text())})
AT_EDITS = {"service.before-reload"}  # those that a start does not come by
AT_FETCHES = tuple(name for name in NAMES if name.startswith(("part.", "store.", "records.")))
ELSEWHERE = ("gc.", "keeper.", "adopt.", "benchmark.")  # in the tests of what comes by there
HUB_DATA = model(spec=CONTROL) + bytes(9 << 20)  # two pieces


def test_the_names_are_known_and_written_so_that_they_can_be_found() -> None:
    calls = sum(path.read_text().count("failpoint(") for path in SOURCES.rglob("*.py"))
    assert len(NAMES) == calls - 1, "each call but the definition has a name of its own, as a literal"
    assert len(NAMES) >= 9
    assert set(NAMES) > AT_EDITS


def killed_at(rig: Rig, name: str) -> None:
    """Starts it with `name` deadly and does what comes by there. A name that is never hit fails here."""
    rig.env["OFFGRIDD_FAILPOINTS"] = f"{name}=kill"
    process = rig.launch()
    if name in AT_EDITS:
        until(rig.ready)
        rig.write(alias="two")
    try:
        assert process.wait(20) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        pytest.fail(f"{name} was never hit")
    del rig.env["OFFGRIDD_FAILPOINTS"]


def old_state(folder: Path) -> None:
    """A state of the version that had no number."""
    folder.mkdir(mode=0o700)
    db = sqlite3.connect(folder / "state.db")
    db.execute("create table pins (model text primary key, pin text)")
    db.close()


def check_state(folder: Path, status: dict[str, Any]) -> None:
    """By looking at the files alone: what is said to be kept is there and whole, and nothing else is."""
    (text,) = [text for name, text in json.loads((folder / "last-good.json").read_bytes())]
    assert "models:" in text
    names = {p.name for p in folder.iterdir()} - {"state.db-wal", "state.db-shm"}
    assert names <= {"lock", "state.db", "last-good.json"}, "no part is left behind"
    (model,) = status["models"]
    assert model["file"]["sha256"] == hashlib.sha256(FILE_PATH.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", AT_FETCHES)
def test_killed_while_it_fetches_it_converges_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    digest = hashlib.sha256(HUB_DATA).hexdigest()
    with local_hub(tmp_path / "hub") as hub:
        hub.put("acme/Tiny-GGUF", {"tiny-Q8_0.gguf": HUB_DATA})
        rig = Rig(tmp_path, "fake")
        rig.manifest.write_text(
            f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{hf: acme/Tiny-GGUF}}, endpoint: "{hub.base}", context: 64}}}}
"""
        )
        killed_at(rig, name)
        rig.start()
        try:
            until(rig.is_ready)
            state = tmp_path / "state"
            assert (state / "blobs" / f"sha256-{digest}").read_bytes() == HUB_DATA
            assert sorted(p.name for p in (state / "blobs").iterdir()) == [f"sha256-{digest}", f"sha256-{digest}.json"]
            assert list((state / "partial").iterdir()) == []
        finally:
            assert rig.stop() == 0
            rig.api.close()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in AT_FETCHES and not name.startswith(ELSEWHERE)])
def test_killed_there_it_converges(tmp_path: Path, name: str) -> None:
    rig = Rig(tmp_path, "fake")
    rig.write()
    if name.startswith("migrate."):
        old_state(tmp_path / "state")
    killed_at(rig, name)
    rig.start()
    try:
        status = until(lambda: (s := rig.status())["observedGeneration"] == s["generation"] and rig.is_ready() and s)
        assert status["generation"] == (2 if name in AT_EDITS else 1)
        check_state(tmp_path / "state", status)
    finally:
        assert rig.stop() == 0
        rig.api.close()


@pytest.mark.parametrize("name", ["replace.before-rename", "generation.before-write"])
@pytest.mark.parametrize("error", ["eio", "enospc"])
def test_a_state_that_can_not_be_written_is_said_and_serving_goes_on(tmp_path: Path, name: str, error: str) -> None:
    rig = Rig(tmp_path, "fake", {"OFFGRIDD_FAILPOINTS": f"{name}={error}"})
    rig.write()
    rig.start()
    try:
        found = next(c for c in rig.status()["conditions"] if c["type"] == "StateWritable")
        assert (found["status"], found["reason"]) == ("False", "StateNotWritable")
        assert rig.pids()
    finally:
        assert rig.stop() == 0
        rig.api.close()
