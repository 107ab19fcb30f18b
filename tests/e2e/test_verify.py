"""verify: by identity or by all bytes; what rotted is put away and fetched again, of what is not ours it only tells."""

from __future__ import annotations

import hashlib
import json
import os
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
DATA = {quant: model(spec=CONTROL) + bytes(i) for i, quant in enumerate(("Q8_0", "Q4_K_M"))}
SHA = {quant: hashlib.sha256(data).hexdigest() for quant, data in DATA.items()}
LOCAL = model(spec=CONTROL) + bytes(32)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {f"tiny-{quant}.gguf": data for quant, data in DATA.items()})
        yield made


@pytest.fixture
def rig(tmp_path: Path, hub: Local) -> Iterator[Rig]:
    """`hub` and `twin` are declared with the same bytes, `local` with a file of the host; Q4_K_M is kept."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root/local.gguf").write_bytes(LOCAL)
    made = Rig(tmp_path, "fake", {"OFFGRIDD_STORE_ROOTS": str(tmp_path / "root")})
    made.manifest.write_text(
        f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{made.port}"]}}
defaults: {{endpoint: "{hub.base}", context: 64}}
store: {{min_free: 0}}
models:
  hub: {{source: {{hf: {REPO}}}, quant: Q8_0}}
  twin: {{source: {{hf: {REPO}, file: tiny-Q8_0.gguf}}}}
  local: {{source: {{file: {tmp_path}/root/local.gguf}}}}
"""
    )
    made.start()
    until(made.is_ready)
    assert offgrid(made, "pull", REPO, "--quant", "Q4_K_M").returncode == 0
    yield made
    assert made.stop() == 0
    made.api.close()


def offgrid(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [OFFGRID, "--host", str(rig.socket), *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def verify(rig: Rig, *args: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and each row by the name of its file."""
    done = offgrid(rig, "verify", "--json", *args)
    return done.returncode, {Path(row["file"]).name: row for row in json.loads(done.stdout)["result"]["files"]}


def blob(rig: Rig, quant: str) -> Path:
    return rig.folder / "state/blobs" / f"sha256-{SHA[quant]}"


def rot(path: Path) -> None:
    """Other bytes; the file system says that nothing has changed."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\xff\xff\xff\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_all_is_well(rig: Rig, deep: list[str]) -> None:
    code, rows = verify(rig, *deep)
    assert code == 0
    assert {(name, row["state"], row["in_store"]) for name, row in rows.items()} == {
        ("tiny-Q8_0.gguf", "ok", True),
        ("local.gguf", "ok", False),
        ("tiny-Q4_K_M.gguf", "ok", True),
    }
    assert rows["tiny-Q8_0.gguf"]["models"] == ["hub", "twin"]
    done = offgrid(rig, "verify", *deep)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["FILE", *rows]
    for name in ("hub", "tiny-Q4_K_M.gguf"):
        assert verify(rig, name, *deep)[0] == 0


def test_bytes_that_rotted_are_found_by_reading_and_fetched_again(rig: Rig, hub: Local) -> None:
    rot(blob(rig, "Q8_0"))
    assert verify(rig)[0] == 0, "its identity is the same"
    hub.seen.sent.clear()
    code, rows = verify(rig, "hub", "--deep")
    row = rows["tiny-Q8_0.gguf"]
    assert (code, row["state"], row["then"]) == (1, "changed", "quarantined")
    assert row["found"] != row["sha256"] == SHA["Q8_0"]
    assert (rig.folder / "state/quarantine" / f"sha256-{SHA['Q8_0']}").exists()
    until(lambda: blob(rig, "Q8_0").exists() and rig.is_ready())
    assert blob(rig, "Q8_0").read_bytes() == DATA["Q8_0"]
    assert hub.seen.sent[""] == len(DATA["Q8_0"])
    assert verify(rig, "--deep")[0] == 0


def test_a_kept_file_that_rotted_is_put_away_and_comes_again_on_demand(rig: Rig) -> None:
    rot(blob(rig, "Q4_K_M"))
    code, rows = verify(rig, "--deep")
    assert (code, rows["tiny-Q4_K_M.gguf"]["then"]) == (1, "quarantined")
    code, rows = verify(rig)
    assert (code, rows["tiny-Q4_K_M.gguf"]["state"]) == (1, "missing")
    assert offgrid(rig, "pull", REPO, "--quant", "Q4_K_M").returncode == 0
    assert verify(rig, "--deep")[0] == 0


def test_a_file_of_the_host_is_told_of_and_left_where_it_is(rig: Rig) -> None:
    path = rig.folder / "root/local.gguf"
    rot(path)
    code, rows = verify(rig, "local", "--deep")
    assert (code, rows["local.gguf"]["state"], rows["local.gguf"]["then"]) == (1, "changed", "verified again")
    assert path.exists()
    until(lambda: rig.is_ready() and verify(rig, "local", "--deep")[0] == 0)
    assert not (rig.folder / "state/quarantine").exists()


def test_touched_is_not_changed_and_gone_or_replaced_is(rig: Rig, tmp_path: Path) -> None:
    os.utime(blob(rig, "Q8_0"))
    assert verify(rig, "hub")[0] == 0
    blob(rig, "Q4_K_M").unlink()
    os.mkfifo(blob(rig, "Q4_K_M"))
    code, rows = verify(rig, "tiny-Q4_K_M.gguf")
    assert (code, rows["tiny-Q4_K_M.gguf"]["state"]) == (1, "unreadable")
    blob(rig, "Q4_K_M").unlink()
    blob(rig, "Q4_K_M").symlink_to(tmp_path / "root/local.gguf")
    assert verify(rig, "tiny-Q4_K_M.gguf")[1]["tiny-Q4_K_M.gguf"]["state"] == "unreadable"
    blob(rig, "Q4_K_M").unlink()
    assert verify(rig, "tiny-Q4_K_M.gguf")[1]["tiny-Q4_K_M.gguf"]["state"] == "missing"
    with open(blob(rig, "Q8_0"), "r+b") as file:
        file.truncate(1000)
    code, rows = verify(rig, "hub")
    assert (code, rows["tiny-Q8_0.gguf"]["state"]) == (1, "changed")
    until(lambda: blob(rig, "Q8_0").exists() and rig.is_ready() and verify(rig, "hub")[0] == 0)


def test_what_is_not_known_is_one_line(rig: Rig) -> None:
    done = offgrid(rig, "verify", "nothing")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    for body in (b"[]", b'{"deep": 1}', b'{"model": 5}', b'{"x": 1}'):
        with pytest.raises(CliError, match="cannot"):
            rig.admin.json("POST", "/v1/verify", body)


def test_it_shows_how_far_it_is_and_can_be_called_off(rig: Rig) -> None:
    with open(rig.folder / "root/local.gguf", "ab") as file:
        file.truncate(1 << 30)  # what follows the tensors is allowed
    rig.admin.json("POST", "/v1/reconcile")
    until(lambda: any((m["file"] or {}).get("size") == 1 << 30 for m in rig.status()["models"]))
    job = rig.admin.json("POST", "/v1/verify", json.dumps({"model": "local", "deep": True}).encode())["id"]
    until(lambda: rig.admin.json("GET", f"/v1/jobs/{job}")["bytes"])
    assert rig.admin.json("GET", f"/v1/jobs/{job}")["size"] == 1 << 30
    assert rig.admin.json("DELETE", f"/v1/jobs/{job}")["state"] == "cancelled"


def test_what_rots_in_silence_is_found_by_schedule(rig: Rig, hub: Local) -> None:
    rot(blob(rig, "Q8_0"))
    text = rig.manifest.read_text().replace("{min_free: 0}", "{min_free: 0, verify_every: 1s}")
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)
    until(
        lambda: blob(rig, "Q8_0").exists() and hashlib.sha256(blob(rig, "Q8_0").read_bytes()).hexdigest() == SHA["Q8_0"]
    )
    until(rig.is_ready)
    assert "is changed: its sha256 is" in (rig.folder / "log").read_text()
    assert (rig.folder / "state/quarantine").is_dir()


def sound(path: Path, sha256: str) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
