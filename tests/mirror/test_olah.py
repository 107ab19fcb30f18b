"""What is declared with a mirror as its endpoint is listed, found, fetched in ranges and verified through it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import pytest
from support.hubs import Local, local_hub
from support.rig import Rig, free_port, until
from support.tinymodel import CONTROL, model

from offgridd.effects.hub import HubClient

REPO, FILE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf"
DATA = model(spec=CONTROL) + random.Random(4).randbytes(40 << 20)
BLOB = f"sha256-{hashlib.sha256(DATA).hexdigest()}"
pytestmark = pytest.mark.mirror


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Local]:
    with local_hub(tmp_path / "hub") as made:
        made.put(REPO, {FILE: DATA, "README.md": b"# Tiny\n"})
        yield made


@pytest.fixture
def mirror(hub: Local, tmp_path: Path) -> Iterator[str]:
    """olah in front of the hub, whose large files lie at another port; gives its address."""
    content = urlsplit(HubClient(hub.base).resolve(REPO, "main", FILE).url).netloc
    here = f"127.0.0.1:{free_port()}"
    options = {
        "host": "127.0.0.1", "port": here.partition(":")[2], "repos-path": tmp_path / "mirrored",
        "log-path": tmp_path / "mirror-log", "hf-scheme": "http", "hf-netloc": urlsplit(hub.base).netloc,
        "hf-lfs-netloc": content, "mirror-scheme": "http", "mirror-netloc": here, "mirror-lfs-netloc": here,
    }  # fmt: skip
    argv = [os.environ["OFFGRIDD_OLAH"], *(f"--{name}={value}" for name, value in options.items())]
    with (tmp_path / "mirror.out").open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        until(lambda: answers(f"http://{here}/"))
        yield f"http://{here}"
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except HTTPError:
        return True
    except (URLError, OSError):
        return False


def test_a_model_comes_through_a_mirror_and_again_from_what_it_kept(hub: Local, mirror: str, tmp_path: Path) -> None:
    hub.seen.sent.clear()
    for again in (False, True):
        (tmp_path / str(again)).mkdir()
        rig = Rig(tmp_path / str(again), "fake")
        rig.manifest.write_text(
            f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
store: {{min_free: 0}}
models: {{tiny: {{source: {{hf: {REPO}}}, endpoint: "{mirror}", context: 64}}}}
"""
        )
        rig.start()
        try:
            until(rig.is_ready)
            assert (tmp_path / str(again) / "state/blobs" / BLOB).read_bytes() == DATA
            assert os.listdir(tmp_path / str(again) / "state/partial") == []
        finally:
            assert rig.stop() == 0
            rig.api.close()
        if not again:
            first = hub.seen.sent[""]
            assert first >= len(DATA)
            shutil.rmtree(tmp_path / "False" / "state")
    assert hub.seen.sent[""] - first < len(DATA) // 10, "the mirror has kept it"
