"""One fetch in a process of its own: `python -m transfer.contender KIND ENDPOINT FOLDER SHA256 SIZE`. Prints JSON.

Times begin when everything is imported and end when the file is where it belongs; `cpu` is that of all threads.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from transfer.hub import FILE, REPO

AT_ONCE = 1 << 20  # bytes that the plain stream reads at once


def ours(endpoint: str, folder: Path, sha256: str, size: int, *, hashed: bool = True) -> Callable[[], object]:
    """As the daemon does it, into a store: synced, and its sha256 known unless `hashed` is off."""
    from offgridd.effects.download import Download, Wanted
    from offgridd.effects.hub import HubClient
    from offgridd.effects.store import Store
    from offgridd.effects.transfer.fetch import Fetch
    from offgridd.effects.transfer.pace import Limits
    from offgridd.effects.transfer.server import Origin

    def only_wait(fetch: Fetch) -> str:
        with fetch._grew:
            fetch._grew.wait_for(lambda: fetch._part.pieces.complete or fetch._pace.stopped)
        fetch._pace.check()
        return sha256

    if not hashed:
        Fetch._hash = only_wait  # type: ignore[method-assign]
    client = HubClient(endpoint)
    commit = client.tree(REPO).commit  # the daemon has listed the repository before it fetches, once
    origin = Origin(lambda: client.resolve(REPO, commit, FILE))
    wanted = Wanted(FILE, sha256, size, origin, {"key": "benchmark"}, 0)
    return Download(Store(folder), wanted, Limits, lambda here, of: None).run


def hub_library(endpoint: str, folder: Path) -> Callable[[], object]:
    """hf_hub_download with its defaults, Xet off (the hub has none)."""
    os.environ |= dict.fromkeys(("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")
    from huggingface_hub import hf_hub_download

    return lambda: hf_hub_download(REPO, FILE, endpoint=endpoint, cache_dir=folder, token=False)


def plain(endpoint: str, folder: Path, *, synced: bool, hashed: bool) -> Callable[[], object]:
    """One connection, read into a buffer and written to a file; then synced, and hashed on the way, where asked."""

    def get() -> None:
        url, answer = f"{endpoint}/{REPO}/resolve/main/{FILE}", None
        while answer is None or answer.status // 100 == 3:
            to = urlsplit(url)
            connection = http.client.HTTPConnection(to.netloc)
            connection.request("GET", to.path + (f"?{to.query}" if to.query else ""))
            answer = connection.getresponse()
            url = answer.headers.get("location", "")
        digest, data = hashlib.sha256(), memoryview(bytearray(AT_ONCE))
        fd = os.open(folder / FILE, os.O_CREAT | os.O_WRONLY)
        while count := answer.readinto(data):
            os.write(fd, data[:count])
            if hashed:
                digest.update(data[:count])
        if synced:
            os.fsync(fd)

    return get


def peak() -> float:
    """The most resident memory that there was, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


def main() -> None:
    kind, endpoint, place, sha256, size = sys.argv[1:]
    folder = Path(place)
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "ours": lambda: ours(endpoint, folder, sha256, int(size)),
        "unhashed": lambda: ours(endpoint, folder, sha256, int(size), hashed=False),
        "hub-library": lambda: hub_library(endpoint, folder),
        "plain": lambda: plain(endpoint, folder, synced=False, hashed=False),
        "plain-synced": lambda: plain(endpoint, folder, synced=True, hashed=False),
        "plain-hashed": lambda: plain(endpoint, folder, synced=True, hashed=True),
    }
    run = makers[kind]()
    cpu, began = time.process_time(), time.perf_counter()
    run()
    wall = time.perf_counter() - began
    print(json.dumps({"wall": wall, "cpu": time.process_time() - cpu, "peak": peak()}))


if __name__ == "__main__":
    main()
