"""What goes wrong between offgrid and a daemon is one clean line and a documented exit code."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from offgridd.cli.doctor import _asked
from offgridd.cli.terminal import clean

OFFGRID = str(Path(sys.executable).with_name("offgrid"))
OK, EVENTS = b"HTTP/1.1 200 OK\r\n", b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DATA = b'data: {"choices":[{"delta":{"content":"hello"}}]}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(DATA), DATA)
REFUSAL = b'{"error":{"message":"cannot \\u001b]0;x\\u0007 do\\nthat \\u202e"}}'


def offgrid(host: str, *args: str) -> tuple[int, str, str]:
    done = subprocess.run([OFFGRID, "--host", host, *args], input="hi", capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def answer(server: socket.socket, said: bytes, reset: bool) -> threading.Thread:
    """Answers one request with `said`, then its connection is reset or ends, as a daemon's that dies."""

    def serve() -> None:
        client, _ = server.accept()
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1 << 16)
            client.sendall(said)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "ended"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "smol"], OK + EVENTS + CHUNK),
        (["run", "smol"], OK + EVENTS + CHUNK[:-20]),
        (["run", "smol"], OK + EVENTS + b"5\r\ndata:"),
        (["run", "smol"], b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{"),
        (["status"], OK + b'Content-Length: 100\r\n\r\n{"generation":'),
        (["status"], OK + b"Content-Length: 2\r\n\r\n{]"),
        (["status"], OK + b'Content-Length: 7\r\n\r\n{"a":1}'),
        (["describe", "smol"], OK + b"Content-Length: 2\r\n\r\n[]"),
        (["ps"], OK + b'Content-Length: 13\r\n\r\n{"memory":[]}'),
        (["wait"], OK + b"Content-Length: 1\r\n\r\n1"),
        (["status", "--watch"], OK + EVENTS),
        (["logs", "smol"], OK),
        (["status"], b""),
    ],
)
def test_a_daemon_that_dies_is_one_line_and_3(server: socket.socket, args: list[str], said: bytes, reset: bool) -> None:
    thread = answer(server, said, reset)
    code, _, err = offgrid(f"127.0.0.1:{server.getsockname()[1]}", *args)
    thread.join()
    assert (code, len(err.splitlines())) == (3, 1), err
    assert err.startswith("offgrid: cannot ")


@pytest.mark.parametrize("said", [b"no HTTP at all\r\n\r\n", OK + b"Date: soon\r\nContent-Length: 0\r\n\r\n", b""])
def test_doctor_of_a_hub_that_is_none(server: socket.socket, said: bytes) -> None:
    thread = answer(server, said, reset=False)
    found = _asked(f"http://127.0.0.1:{server.getsockname()[1]}")
    thread.join()
    assert (found.what, found.state) == ("hub", "ok" if said.startswith(OK) else "warn")


def test_a_host_that_is_none_is_one_line_and_3() -> None:
    code, _, err = offgrid("127.0.0.1:port", "status")
    assert (code, len(err.splitlines())) == (3, 1), err


def test_what_a_daemon_says_is_no_command_to_the_terminal(server: socket.socket) -> None:
    thread = answer(server, b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%s" % (len(REFUSAL), REFUSAL), False)
    code, _, err = offgrid(f"127.0.0.1:{server.getsockname()[1]}", "run", "smol")
    thread.join()
    assert (code, err) == (1, "offgrid: cannot ?]0;x? do that ?\n")


def test_text_in_any_script_stays_as_it_is() -> None:
    text = "d\u00e9j\u00e0\u00a0vu\t\u3000\u4e2d\u6587\n\U0001f600"
    assert clean(text) == text
    assert clean("\x1b[2J\x07\x9b\r\u2066") == "?[2J????"


@pytest.mark.parametrize(("command", "code"), [("reload", 1), ("status", 3)])
def test_a_socket_one_may_not_open_is_said_with_what_to_do(tmp_path: Path, command: str, code: int) -> None:
    """A folder that can not be searched, TCP that does not answer, and a user who is not root."""
    program = (
        "import encodings.idna, os, shutil; from offgridd.cli import client, main; "
        "client.DEFAULT_LISTEN = '127.0.0.1:1'; os.geteuid() or os.setuid(65534); raise SystemExit(main())"
    )
    (tmp_path / "run").mkdir(0)
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    argv = [sys.executable, "-c", program, command]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
    assert "use sudo or join its group" in done.stderr
