"""What systemd gets to read, on a real datagram socket, and that its absence is no failure."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offgridd.effects.systemd import Notifier

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # it lives as long as the process
LIMIT = 4096  # bytes: systemd ignores longer messages


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@offgridd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield sock


def lines(sock: socket.socket) -> list[str]:
    """Of one datagram."""
    return sock.recv(1 << 20).decode("utf-8").split("\n")


def test_lines_arrive_together_and_in_order(heard: socket.socket) -> None:
    Notifier().send("READY=1", "STATUS=serving generation 3")
    assert lines(heard) == ["READY=1", "STATUS=serving generation 3"]


def test_text_is_utf_8(heard: socket.socket) -> None:
    Notifier().send("STATUS=refused: mod\u00e8le \u6a21\u578b \U0001f600")
    assert lines(heard) == ["STATUS=refused: mod\u00e8le \u6a21\u578b \U0001f600"]


def test_a_newline_in_a_text_makes_no_line_of_its_own(heard: socket.socket) -> None:
    Notifier().send("STATUS=refused: a\nMAINPID=1\nSTOPPING=1")
    assert lines(heard) == ["STATUS=refused: a MAINPID=1 STOPPING=1"]


def test_a_file_name_that_is_no_utf_8_is_shown_as_far_as_it_can(heard: socket.socket) -> None:
    Notifier().send("STATUS=refused: conf.d/" + os.fsdecode(b"\xff.yaml"))
    assert lines(heard) == ["STATUS=refused: conf.d/?.yaml"]


def test_a_long_text_is_cut_so_that_its_message_counts(heard: socket.socket) -> None:
    Notifier().send("READY=1", "STATUS=" + "\u6a21" * 5000)
    data = heard.recv(1 << 20)
    assert len(data) < LIMIT
    assert data.startswith("READY=1\nSTATUS=\u6a21".encode())
    assert data.decode("utf-8").endswith("\u6a21")


def test_reloading_says_when_in_the_same_message(heard: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier().reloading()
    first, second = lines(heard)
    key, _, value = second.partition("=")
    assert (first, key) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_reader_that_went_is_no_failure(heard: socket.socket) -> None:
    notifier = Notifier()
    heard.close()
    notifier.send("READY=1")


def dead(folder: Path) -> str:
    """The path of a socket that nobody listens at any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / "dead"))
    return str(folder / "dead")


@pytest.mark.parametrize("kind", ["unset", "empty", "missing", "dead", "too long", "dead abstract"])
def test_without_systemd_nothing_fails(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"empty": "", "missing": str(tmp_path / "x"), "dead": dead(tmp_path)}
    names |= {"too long": "/" + "x" * 200, "dead abstract": "@offgridd-nobody"}
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if kind != "unset":
        monkeypatch.setenv("NOTIFY_SOCKET", names[kind])
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    notifier = Notifier()
    notifier.send("READY=1")
    notifier.reloading()
    assert notifier.watchdog == 0


@pytest.mark.parametrize(
    ("pid", "usec", "seconds"),
    [("mine", "30000000", 15.0), (None, "30000000", 15.0), ("1", "30000000", 0.0), ("mine", None, 0.0)],
)
@pytest.mark.usefixtures("heard")
def test_the_watchdog_is_fed_twice_as_often_as_asked_if_it_is_ours(
    pid: str | None, usec: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid), ("WATCHDOG_USEC", usec)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Notifier().watchdog == seconds
