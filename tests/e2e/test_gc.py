"""gc: what goes, what stays and why, and a kill between any two of its steps."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

from offgridd.cli.client import CliError

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
REPO = "acme/Tiny-GGUF"
FILES = {quant: model(spec=CONTROL) + bytes(i) for i, quant in enumerate(("Q8_0", "Q4_K_M", "Q5_K_M"))}
SHA = {quant: hashlib.sha256(data).hexdigest() for quant, data in FILES.items()}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {f"tiny-{quant}.gguf": data for quant, data in FILES.items()} | {"bad-Q2_K.gguf": b"no GGUF"})
        yield made


@pytest.fixture
def rig(tmp_path: Path, hub: Local) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    declare(made, hub, "Q8_0", "Q4_K_M")
    made.start()
    until(made.is_ready)
    yield made
    assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, hub: Local, *quants: str, store: str = "grace: 0s", file: str = "") -> None:
    models = "".join(f"\n  {q.lower()}: {{source: {{hf: {REPO}}}, quant: {q}}}" for q in quants)
    models += f"\n  bad: {{source: {{hf: {REPO}, file: {file}}}}}" if file else ""
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
defaults: {{endpoint: "{hub.base}", context: 64, drain: 0s}}
store: {{min_free: 0, {store}}}
models: {models or "{}"}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    if rig.process is not None:
        rig.admin.json("POST", "/v1/reload")


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([OFFGRID, "--host", str(rig.socket), *args], capture_output=True, text=True, timeout=60)


def gc(rig: Rig, *, remove: bool = False) -> dict[tuple[str, str], Any]:
    """Each verdict by kind and name."""
    found = rig.admin.json("POST", "/v1/gc", json.dumps({"remove": remove}).encode())
    return {(one["kind"], one["name"]): one for one in found["entries"]}


def reason(rig: Rig, kind: str, name: str) -> str:
    return str(gc(rig)[kind, name]["reason"])


def blob(rig: Rig, quant: str) -> Path:
    return rig.folder / "state/blobs" / f"sha256-{SHA[quant]}"


def test_what_was_declared_once_goes_after_its_grace_and_what_is_declared_stays(rig: Rig, hub: Local) -> None:
    declare(rig, hub, "Q8_0", store="grace: 1h")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Grace")
    left = gc(rig, remove=True)["blob", SHA["Q4_K_M"]]["left"]
    assert 3000 < left <= 3600
    declare(rig, hub, "Q8_0")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced")
    assert blob(rig, "Q4_K_M").exists()
    done = offgrid(rig, "gc")
    assert "goes: Unreferenced" in done.stdout
    assert "stays: Declared" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("offgrid gc --yes")
    done = offgrid(rig, "gc", "--yes", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["freed"], found["bytes"]) == (0, len(FILES["Q4_K_M"]), len(FILES["Q4_K_M"]))
    assert not blob(rig, "Q4_K_M").exists()
    assert sorted(p.name for p in blob(rig, "Q8_0").parent.iterdir()) == [
        f"sha256-{SHA['Q8_0']}",
        f"sha256-{SHA['Q8_0']}.json",
    ]
    declare(rig, hub, "Q8_0", "Q4_K_M")
    until(lambda: rig.is_ready() and blob(rig, "Q4_K_M").exists())


def test_time_without_the_daemon_does_not_count_and_a_reference_begins_anew(rig: Rig, hub: Local) -> None:
    declare(rig, hub, "Q8_0", store="grace: 2s")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced")
    assert rig.stop() == 0
    rig.start()
    assert reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced", "what was counted is remembered"
    declare(rig, hub, "Q8_0", "Q4_K_M", store="grace: 1h")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Declared")
    declare(rig, hub, "Q8_0", store="grace: 1h")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Grace")
    assert gc(rig)["blob", SHA["Q4_K_M"]]["age"] < 60


def test_nothing_goes_where_nothing_is_declared_unless_it_may(rig: Rig, hub: Local) -> None:
    declare(rig, hub)
    until(lambda: reason(rig, "blob", SHA["Q8_0"]) in ("Grace", "NothingDeclared"))
    assert not any(one["goes"] for one in gc(rig, remove=True).values())
    declare(rig, hub, store="grace: 0s, allow_empty: true")
    until(lambda: reason(rig, "blob", SHA["Q8_0"]) == "Unreferenced")
    assert all(one["removed"] for one in gc(rig, remove=True).values())
    assert list(blob(rig, "Q8_0").parent.iterdir()) == []


def test_the_daemon_reports_it_and_removes_it_by_itself_where_it_is_told_to(rig: Rig, hub: Local) -> None:
    """It looks after each edit, and once a minute."""
    sizes = iter(range(1, 10000))
    declare(rig, hub, "Q8_0")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced")

    def edited(prune: str) -> dict[str, Any]:
        declare(rig, hub, "Q8_0", store=f"grace: 0s, prune: {prune}, max_total: {next(sizes)}GB")
        found: dict[str, Any] = rig.status()["store"]
        return found

    until(lambda: edited("report")["unneeded"] == {"count": 1, "bytes": len(FILES["Q4_K_M"])})
    assert "offgrid gc shows them" in offgrid(rig, "status").stdout
    until(lambda: edited("never")["unneeded"]["count"] == 0)
    assert blob(rig, "Q4_K_M").exists()
    until(lambda: edited("delete") and not blob(rig, "Q4_K_M").exists())
    assert blob(rig, "Q8_0").exists()


def test_kept_files_stay_and_what_is_no_model_goes(rig: Rig, hub: Local) -> None:
    assert offgrid(rig, "pull", REPO, "--quant", "Q5_K_M").returncode == 0
    assert reason(rig, "blob", SHA["Q5_K_M"]) == "Kept"
    bad = hashlib.sha256(b"no GGUF").hexdigest()
    assert offgrid(rig, "pull", REPO, "--file", "bad-Q2_K.gguf").returncode == 1
    until(lambda: reason(rig, "blob", bad) == "Unreferenced")
    assert rig.stop() == 0
    rig.start()
    assert [one["files"] for one in rig.admin.json("GET", "/v1/list")["files"] if one["kept"]] == [["tiny-Q5_K_M.gguf"]]
    assert gc(rig, remove=True)["blob", bad]["removed"]
    assert blob(rig, "Q5_K_M").exists()


def test_parts_links_and_strangers(rig: Rig, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "quarantine").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    lost, of_link, noted = "1" * 64, "2" * 64, "3" * 64
    (state / "partial" / f"{lost}.part").write_bytes(bytes(5000))
    (state / "partial" / f"{lost}.map").write_bytes(b"{}")
    (state / "partial" / "stranger").write_bytes(b"x")
    (state / "partial" / f"{of_link}.part").symlink_to(outside)
    (state / "blobs" / f"sha256-{of_link}").symlink_to(outside)
    (state / "blobs" / f"sha256-{noted}").write_bytes(b"no note, no origin")
    (state / "blobs" / f"sha256-{lost}.json").write_text('{"path": "a\\u001b[31m\\nb"}')
    (state / "quarantine" / f"sha256-{lost}").write_bytes(b"bad")
    found = {key: one["reason"] for key, one in gc(rig, remove=True).items()}
    assert found == {
        ("blob", SHA["Q8_0"]): "Declared",
        ("blob", SHA["Q4_K_M"]): "Declared",
        ("blob", of_link): "NotAFile",
        ("blob", noted): "OriginUnknown",
        ("note", lost): "NoBlob",
        ("partial", lost): "Ownerless",
        ("partial", of_link): "NotAFile",
        ("quarantine", lost): "Recent",
    }
    assert outside.read_bytes() == b"mine"
    assert sorted(p.name for p in (state / "partial").iterdir()) == [f"{of_link}.part", "stranger"]
    assert (state / "blobs" / f"sha256-{noted}").exists()
    assert not (state / "blobs" / f"sha256-{lost}.json").exists()


def test_a_folder_that_is_a_link_is_not_followed(rig: Rig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{'1' * 64}.part").write_bytes(b"x")
    (tmp_path / "state/partial").rmdir()
    (tmp_path / "state/partial").symlink_to(elsewhere)
    done = offgrid(rig, "gc", "--yes")
    assert done.returncode == 1
    assert "cannot look through the store" in done.stderr
    assert len(list(elsewhere.iterdir())) == 1


def test_a_download_that_runs_and_one_that_was_called_off(rig: Rig, tmp_path: Path) -> None:
    with local_hub(tmp_path / "slow", rate=1 << 18) as slow:
        data = FILES["Q8_0"] + os.urandom(30 << 20)
        slow.put("acme/Big-GGUF", {"big-Q8_0.gguf": data})
        sha256 = hashlib.sha256(data).hexdigest()
        declare(rig, slow, "Q8_0", "Q4_K_M")
        asked = json.dumps({"repo": "acme/Big-GGUF"}).encode()
        job = rig.admin.json("POST", "/v1/pull", asked)["id"]
        until(lambda: gc(rig, remove=True).get(("partial", sha256)))
        assert reason(rig, "partial", sha256) == "InUse"
        rig.admin.json("DELETE", f"/v1/jobs/{job}")
        assert reason(rig, "partial", sha256) == "Ownerless"
        assert gc(rig, remove=True)["partial", sha256]["removed"]
        assert list((tmp_path / "state/partial").iterdir()) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"remove": "yes"}', b'{"remove": true, "x": 1}'])
def test_a_body_that_is_not_understood_removes_nothing(rig: Rig, body: bytes) -> None:
    with pytest.raises(CliError, match="cannot"):
        rig.admin.json("POST", "/v1/gc", body)


@pytest.mark.parametrize("name", ["gc.before-blob", "gc.before-note", "gc.before-part", "gc.before-map"])
def test_killed_while_it_removes_the_next_one_ends_it(rig: Rig, hub: Local, name: str) -> None:
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = f"{name}=kill"
    rig.start()
    state = rig.folder / "state"
    (state / "partial" / f"{'1' * 64}.part").write_bytes(b"x")
    (state / "partial" / f"{'1' * 64}.map").write_bytes(b"x")
    declare(rig, hub, "Q8_0")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced")
    with pytest.raises(CliError):
        gc(rig, remove=True)
    assert rig.process is not None
    assert rig.process.wait(20) == -signal.SIGKILL
    del rig.env["OFFGRIDD_FAILPOINTS"]
    rig.start()
    until(rig.is_ready)
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced" if blob(rig, "Q4_K_M").exists() else True)
    assert not any(one["error"] for one in gc(rig, remove=True).values())
    assert sorted(p.name for p in state.glob("blobs/*")) == [f"sha256-{SHA['Q8_0']}", f"sha256-{SHA['Q8_0']}.json"]
    assert list((state / "partial").iterdir()) == []


def test_what_the_disk_refuses_is_said_and_the_rest_goes(rig: Rig, hub: Local) -> None:
    assert rig.stop() == 0
    rig.env["OFFGRIDD_FAILPOINTS"] = "gc.before-blob=eio"
    rig.start()
    (rig.folder / "state/partial" / f"{'1' * 64}.part").write_bytes(b"x")
    declare(rig, hub, "Q8_0")
    until(lambda: reason(rig, "blob", SHA["Q4_K_M"]) == "Unreferenced")
    done = offgrid(rig, "gc", "--yes")
    assert done.returncode == 1
    assert "cannot remove it" in done.stderr
    assert blob(rig, "Q4_K_M").exists()
    assert list((rig.folder / "state/partial").iterdir()) == []
