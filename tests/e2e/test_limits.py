"""Too few descriptors, a stopped daemon: it goes on when that is over, and does nothing rash meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import Rig, until

from offgridd.effects.pulse import worked


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, "fake")
    made.write()
    yield made
    assert made.stop() == 0
    made.api.close()


def test_more_connections_than_descriptors_are_waited_out_without_haste(rig: Rig) -> None:
    process = rig.launch(["prlimit", "--nofile=64:64"])
    until(rig.ready)
    until(rig.is_ready)
    opened = []
    try:
        for _ in range(500):
            sock = socket.socket()
            sock.settimeout(5)
            sock.connect(("127.0.0.1", rig.port))  # the backlog takes what the daemon can not
            opened.append(sock)
        until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) >= 60)
        before, began = worked(process.pid), time.monotonic()
        until(lambda: time.monotonic() - began > 2)
        assert worked(process.pid) - before < 100, "half of a processor would be haste"
    finally:
        for sock in opened:
            sock.close()
    until(rig.answers)
    assert rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=4)


def test_a_daemon_that_was_stopped_for_a_while_kills_nobody_when_it_goes_on(rig: Rig) -> None:
    rig.start()
    pids = rig.pids()
    assert rig.process is not None
    os.kill(rig.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 5)
    os.kill(rig.process.pid, signal.SIGCONT)
    until(rig.answers)
    assert rig.api.chat.completions.create(model="smol", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    assert rig.pids() == pids
