"""What doctor makes of a hub that answers strangely; the rest of it runs against a daemon in test_offgrid."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from offgridd.cli import doctor


@contextmanager
def answering(text: bytes) -> Iterator[str]:
    """An address at which one connection gets `text`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(text)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


OK = b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    ("text", "state", "said"),
    [
        (OK + b"\r\n[]", "ok", "answers"),
        (OK + b"Date: perhaps tomorrow\r\n\r\n[]", "ok", "answers"),
        (OK + b"Date: Mon, 01 Jan 2001 00:00:00 GMT\r\n\r\n[]", "bad", "this machine's clock is off by"),
        (b"HTTP/1.0 407 Who are you\r\n\r\n", "warn", "answered 407"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "warn", "answered what is no HTTP"),
        (b"", "warn", "cannot reach"),
    ],
    ids=["well", "no date", "another clock", "refuses", "no HTTP", "nothing"],
)
def test_a_hub(text: bytes, state: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with answering(text) as address:
        found = doctor._asked(address)
    assert (found.state, said in found.text) == (state, True), found.text
