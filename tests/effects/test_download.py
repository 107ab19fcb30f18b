"""A file of the hub becomes a blob: through kills, full disks and wrong bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hubs import Local, local_hub

from offgridd.core.errors import ActionFailed
from offgridd.effects.download import Download, Wanted
from offgridd.effects.hub import HubClient
from offgridd.effects.store import Store
from offgridd.effects.transfer.pace import Limits
from offgridd.effects.transfer.pieces import PIECE
from offgridd.effects.transfer.server import Origin

REPO, FILE, CONNECTIONS = "acme/Tiny-GGUF", "tiny-Q8_0.gguf", 4
DATA = random.Random(2).randbytes(6 * PIECE + 54321)
SHA = hashlib.sha256(DATA).hexdigest()
CHILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_download
print(test_download.download(Path(sys.argv[1]), sys.argv[2]).run())
"""
FAILPOINTS = [f"{name}={action}@{number}" for name, numbers in {
    "part.write": (1, 20, 70), "part.before-sync": (1, 4), "part.before-map": (1, 2), "part.map-written": (1, 2),
    "part.after-map": (1, 2), "store.before-note": (1,), "store.before-rename": (1,), "store.renamed": (1,),
    "store.before-tidy": (1,),
}.items() for number in numbers for action in ("kill",)]  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {FILE: DATA})
        yield made


def download(store: Path, endpoint: str, sha256: str = SHA, min_free: int = 0) -> Download:
    client = HubClient(endpoint)
    origin = Origin(lambda: client.resolve(REPO, "main", FILE), name=endpoint)
    wanted = Wanted(FILE, sha256, len(DATA), origin, {"repo": REPO, "path": FILE, "key": "k"}, min_free)
    return Download(Store(store), wanted, lambda: Limits(CONNECTIONS), lambda here, size: None)


def check(store: Path) -> None:
    """The blob is there, and nothing else that was not meant to stay."""
    assert (store / "blobs" / f"sha256-{SHA}").read_bytes() == DATA
    note = json.loads((store / "blobs" / f"sha256-{SHA}.json").read_text())
    assert (note["repo"], note["path"], note["keys"]) == (REPO, FILE, ["k"])
    assert sorted(os.listdir(store / "blobs")) == [f"sha256-{SHA}", f"sha256-{SHA}.json"]
    assert os.listdir(store / "partial") == []


def test_a_blob_with_its_provenance(hub: Local, tmp_path: Path) -> None:
    assert download(tmp_path, hub.base).run() == tmp_path / "blobs" / f"sha256-{SHA}"
    check(tmp_path)


def test_what_is_there_is_not_fetched(hub: Local, tmp_path: Path) -> None:
    download(tmp_path, hub.base).run()
    hub.seen.requests.clear()
    download(tmp_path, hub.base).run()
    assert hub.seen.requests == []


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_kill_9_and_again_converges_and_fetches_little_twice(hub: Local, tmp_path: Path, failpoint: str) -> None:
    hub.seen.sent.clear()
    argv = [sys.executable, "-c", CHILD, str(tmp_path), hub.base]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OFFGRIDD_FAILPOINTS": failpoint}
    killed = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=50)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    download(tmp_path, hub.base).run()
    check(tmp_path)
    assert hub.seen.sent[""] <= len(DATA) + CONNECTIONS * PIECE


def test_other_bytes_than_promised_are_put_away(hub: Local, tmp_path: Path) -> None:
    with pytest.raises(ActionFailed) as error:
        download(tmp_path, hub.url(corrupt=1)).run()
    failure = error.value.failure
    assert (failure.condition, failure.reason) == ("Verified", "DigestMismatch")
    assert os.listdir(tmp_path / "quarantine") == [f"sha256-{SHA}"]
    assert os.listdir(tmp_path / "partial") == []
    assert not (tmp_path / "blobs").exists()
    download(tmp_path, hub.base).run()
    check(tmp_path)


def test_no_room_is_known_before_the_first_byte(hub: Local, tmp_path: Path) -> None:
    hub.seen.sent.clear()
    with pytest.raises(ActionFailed) as error:
        download(tmp_path, hub.base, min_free=1 << 60).run()
    assert error.value.failure.reason == "InsufficientDisk"
    assert hub.seen.sent[""] == 0


@pytest.mark.parametrize(("action", "reason"), [("enospc", "InsufficientDisk"), ("eio", "Unwritable")])
@pytest.mark.parametrize("place", ["part.write", "part.before-sync", "part.before-map", "store.before-rename"])
def test_a_disk_that_fails_is_told_and_what_is_here_stays(
    hub: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, action: str, reason: str
) -> None:
    monkeypatch.setattr("offgridd.failpoints._ASKED", {place: action})
    with pytest.raises(ActionFailed) as error:
        download(tmp_path, hub.base).run()
    assert (error.value.failure.condition, error.value.failure.reason) == ("Downloaded", reason)
    assert not error.value.failure.terminal
    monkeypatch.setattr("offgridd.failpoints._ASKED", {})
    download(tmp_path, hub.base).run()
    check(tmp_path)
