"""`url:` and a sha256 are enough, whatever server the file comes from."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
DATA = model(spec=CONTROL) + bytes(3 << 20)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: DATA})
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    yield made
    if made.process is not None:
        assert made.stop() == 0
    made.api.close()


def declare(rig: Rig, url: str, more: str = "", server: str = "", sha256: str = SHA) -> None:
    new = rig.manifest.with_suffix(".new")
    new.write_text(f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]{server}}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{url: "{url}"}}, sha256: {sha256}, context: 64{more}}}}}
""")
    new.rename(rig.manifest)


def conditions(rig: Rig) -> dict[str, tuple[str, str]]:
    found: dict[str, Any] = rig.status()["models"][0]
    return {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]}


def web(hub: Local, **faults: int) -> str:
    return f"{hub.url(**faults)}/{REPO}/resolve/main/{FILE}?token=s3cret"


def test_it_is_fetched_verified_and_served_and_asked_for_by_its_name(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub, drop=700_000))
    rig.start()
    until(rig.is_ready)
    answer = rig.api.chat.completions.create(model=FILE, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.choices[0].message.content
    assert conditions(rig)["Resolved"] == ("True", "Pinned")
    assert conditions(rig)["UpToDate"] == ("True", "Fixed")
    assert "s3cret" not in str(rig.status())
    assert "s3cret" not in (rig.folder / "log").read_text()


def test_another_address_of_the_same_bytes_asks_nobody(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub))
    rig.start()
    until(rig.is_ready)
    worker = rig.pids()
    hub.seen.requests.clear()
    declare(rig, "https://nowhere.invalid/moved.gguf", server=", offline: true")
    until(lambda: rig.status()["models"][0]["source"]["url"].endswith("moved.gguf"))
    until(rig.is_ready)
    assert (rig.pids(), hub.seen.requests) == (worker, [])


def test_other_bytes_are_never_loaded(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub), sha256="0" * 64)
    rig.start()
    until(lambda: conditions(rig)["Verified"] == ("False", "DigestMismatch"))
    assert rig.pids() == []


def test_what_is_too_large_or_gone_costs_no_byte(rig: Rig, hub: Local) -> None:
    declare(rig, web(hub), ", max_size: 1MB")
    rig.start()
    until(lambda: conditions(rig)["Resolved"] == ("False", "TooLarge"))
    declare(rig, web(hub).replace(FILE, "none.gguf"))
    until(lambda: conditions(rig)["Resolved"] == ("False", "UrlRefused"))
    assert hub.seen.sent[""] <= 2


def pull(rig: Rig, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).with_name("offgrid")), "--host", str(rig.socket), "pull", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_a_file_of_any_server_is_pulled_with_its_sha256(rig: Rig, hub: Local) -> None:
    rig.write()
    rig.start()
    done = pull(rig, web(hub), "--sha256", SHA, "--declare")
    assert done.returncode == 0, done.stderr
    assert f'sha256: "{SHA}"' in done.stdout
    answer = rig.api.chat.completions.create(model=FILE, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.choices[0].message.content
    (kept,) = rig.admin.json("GET", "/v1/list")["files"]
    assert (kept["repo"], kept["kept"], kept["here"]) == ("web/127.0.0.1", True, True)
    assert rig.stop() == 0
    rig.start()
    assert rig.admin.json("GET", "/v1/list")["files"] == [kept]
    rig.admin.json("POST", "/v1/rm", json.dumps({"model": FILE}).encode())
    assert not any(p.suffix != ".json" for p in (rig.folder / "state/blobs").iterdir())


def test_a_file_of_any_server_that_can_not_be_pulled(rig: Rig, hub: Local) -> None:
    rig.write()
    rig.start()
    for args, says in (
        (["--sha256", "0" * 64], "DigestMismatch"),
        (["--sha256", "abc"], "64 hex digits"),
        (["--sha256", SHA, "--quant", "Q8_0"], "nothing else is to be chosen"),
        (["--sha256", SHA, "--dry-run"], "nothing else is to be chosen"),
        (["--sha256", SHA, "--max-size", "1MB"], "TooLarge"),
        ([], "needs its sha256"),
    ):
        done = pull(rig, web(hub), *args)
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    for address in ("http://example.com/x.gguf", "https://u:p@h/x.gguf", "file:///etc/passwd", "https://h/"):
        assert pull(rig, address, "--sha256", SHA).returncode == 1
    assert rig.admin.json("GET", "/v1/list")["files"] == []
