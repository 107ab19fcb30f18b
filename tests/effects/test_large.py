"""Files as large as models are, over real sockets: kills and breaks cost little, counted by the hub.

The download runs alone, in a child process where it is killed: a file's content does not matter to it, so these are
no models.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hubs import Local, local_hub

import offgridd
from offgridd.effects.download import Download, Wanted
from offgridd.effects.hub import HubClient
from offgridd.effects.store import Store
from offgridd.effects.transfer.pace import Limits
from offgridd.effects.transfer.pieces import PIECE
from offgridd.effects.transfer.server import Origin

REPO, CONNECTIONS = "acme/Large-GGUF", 8
KILLED, BROKEN = ("large-Q8_0.gguf", 512 << 20), ("small-Q8_0.gguf", 64 << 20)
CHILD = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_large
test_large.download(Path(sys.argv[1]), sys.argv[2], test_large.KILLED).run()
"""
CALL = re.compile(r'\bfailpoint\(\s*"((?:part|store)\.[^"]+)"\s*\)')
NAMES = sorted(
    {n for p in (Path(offgridd.__file__).parent / "effects").rglob("*.py") for n in CALL.findall(p.read_text())}
)
MIDDLE = {"part.write": (1, 100, 700), "part.before-sync": (1, 40)} | dict.fromkeys(
    ("part.before-map", "part.map-written", "part.after-map"), (1, 8)
)


def content(size: int) -> Iterator[bytes]:
    """Pieces that all differ, quickly made."""
    block = random.Random(3).randbytes(PIECE)
    for number in range(size // PIECE):
        yield number.to_bytes(8, "little") + block[8:]


def digest(size: int) -> str:
    found = hashlib.sha256()
    for data in content(size):
        found.update(data)
    return found.hexdigest()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        (made.folder / REPO).mkdir(parents=True)
        for name, size in (KILLED, BROKEN):
            with (made.folder / REPO / name).open("wb") as file:
                file.writelines(content(size))
        made.put(REPO, {})
        yield made
        (made.folder / REPO / KILLED[0]).unlink()


def download(
    store: Path, endpoint: str, file: tuple[str, int], hears: Callable[[int, int], None] = lambda here, size: None
) -> Download:
    client, (name, size) = HubClient(endpoint), file
    origin = Origin(lambda: client.resolve(REPO, "main", name), name=endpoint)
    wanted = Wanted(name, digest(size), size, origin, {"repo": REPO, "path": name, "key": "k"}, 0)
    return Download(Store(store), wanted, lambda: Limits(CONNECTIONS), hears)


@pytest.mark.parametrize("failpoint", [f"{n}=kill@{number}" for n in NAMES for number in MIDDLE.get(n, (1,))])
def test_kill_9_costs_at_most_one_piece_a_connection(hub: Local, tmp_path: Path, failpoint: str) -> None:
    hub.seen.sent.clear()
    argv = [sys.executable, "-c", CHILD, str(tmp_path), hub.base]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OFFGRIDD_FAILPOINTS": failpoint}
    killed = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=50)
    assert killed.returncode == -signal.SIGKILL, f"{failpoint} was never hit; {killed.stderr}"
    blob = download(tmp_path, hub.base, KILLED).run()
    with blob.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == blob.name.removeprefix("sha256-")
    assert sorted(os.listdir(tmp_path / "blobs")) == [blob.name, f"{blob.name}.json"]
    assert os.listdir(tmp_path / "partial") == []
    assert sorted(os.listdir(tmp_path)) == ["blobs", "partial"]
    assert 0 <= hub.seen.sent[""] - KILLED[1] <= CONNECTIONS * PIECE
    blob.unlink()  # half a gigabyte each


@pytest.mark.parametrize("fault", ["drop", "reset"])
@pytest.mark.parametrize("after", [1 << 20, 700_000])
def test_connections_that_break_off_again_and_again_cost_little(
    hub: Local, tmp_path: Path, fault: str, after: int
) -> None:
    """A quiet end loses nothing that was sent; with a reset is lost what lay in a socket, and only that."""
    size, written, before = BROKEN[1], 0, 0

    def hears(here: int, _size: int) -> None:
        nonlocal written, before
        written, before = written + here - before, here

    endpoint = hub.url(**{fault: after})
    blob = download(tmp_path, endpoint, BROKEN, hears).run()
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name.removeprefix("sha256-")
    sent = hub.seen.sent[f"/{fault}={after}"]
    print(f"{fault} after {after}: {sent / size:.3f} times the size sent by the hub, {written / size:.3f} written")
    assert written < 1.05 * size
    assert sent >= size
    if fault == "drop":
        assert sent < 1.05 * size
