"""Bytes of a file over real connections: kept ones, dead ones, TLS, proxies, and answers that keep to nothing."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from offgridd.core.hub import HubError
from offgridd.effects.hub import Wires
from offgridd.effects.piped import Piped, fill, pipe

DATA = os.urandom(3 << 20)
CERTIFICATE = Path(__file__).parents[1] / "data" / "localhost.pem"  # a test's own, with its key: nobody trusts it


class Server(ThreadingHTTPServer):
    """Answers with the range of DATA that was asked for. `seen`: what each request was; `met`: its connections."""

    daemon_threads = True

    def __init__(self, more: Callable[[Handler], bool] = lambda handler: False, host: str = "127.0.0.1") -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.met: list[Any] = []
        self.more = more  # answers in place of the usual, and says whether it did
        super().__init__((host, 0), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.met.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.server.more(self):
            return
        start, end = self.headers["range"].removeprefix("bytes=").split("-")
        body = DATA[int(start) : int(end) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """A proxy that leads wherever the test's own server is, whatever the name."""
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(far, self.connection), daemon=True)
            back.start()
            pump(self.connection, far)
            back.join()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def pump(source: socket.socket, to: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        """One side has gone; the other one learns it from its own end."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made: list[Server] = []

    def start(*more: Callable[[Handler], bool], tls: bool = False, host: str = "127.0.0.1") -> Server:
        server = Server(*more, host=host)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        made.append(server)
        return server

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def url(server: Server, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{server.server_address[1]}/a file?sig=%2F"


def read(wires: Wires, address: str, start: int, end: int, token: str | None = None) -> bytes:
    """What comes, written to a file as a part is."""
    fd = os.memfd_create("part")
    try:
        with wires.open(address, start, end, token) as content:
            at = 0
            for data in content.pieces:
                if isinstance(data, Piped):
                    data.into(fd, at)
                else:
                    os.pwrite(fd, data, at)
                at += len(data)
        return os.pread(fd, at, 0)
    finally:
        os.close(fd)


def test_connections_are_kept_and_ranges_come_whole(serve: Callable[..., Server], wires: Wires) -> None:
    server = serve()
    for start, end in ((0, len(DATA)), (5, 1_000_000), (7, 8), (1, 300_000)):
        assert read(wires, url(server), start, end, "hf_x") == DATA[start:end]
    assert len(server.met) == 1
    assert server.seen[0][0] == "/a%20file?sig=%2F"
    assert server.seen[0][1]["authorization"] == "Bearer hf_x"
    read(wires, url(server), 0, 9)
    assert "authorization" not in server.seen[-1][1]
    wires.close()
    with pytest.raises(HubError):
        read(wires, url(server), 0, 9)


def test_a_connection_that_died_meanwhile_is_made_anew(serve: Callable[..., Server], wires: Wires) -> None:
    server = serve()
    assert read(wires, url(server), 0, 9) == DATA[:9]
    server.met[0].shutdown(socket.SHUT_RDWR)
    assert read(wires, url(server), 0, 9) == DATA[:9]
    assert len(server.met) == 2


def test_whoever_waits_for_bytes_is_woken_when_all_is_closed(serve: Callable[..., Server], wires: Wires) -> None:
    waits, over = threading.Event(), threading.Event()

    def silent(handler: Handler) -> bool:
        waits.set()
        return over.wait(30)

    server, found = serve(silent), []

    def ask() -> None:
        with pytest.raises(HubError) as error:
            read(wires, url(server), 0, 9)
        found.append(error.value.failure.passing)

    thread = threading.Thread(target=ask)
    thread.start()
    assert waits.wait(10)
    wires.close()
    thread.join(10)
    over.set()
    assert found == [True]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 206 x\r\nContent-Length: 500000\r\n\r\nabc",
        b"HTTP/1.1 206 x\r\n" + b"a" * 99_999,
        b"HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 206 x\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
def test_an_answer_that_does_not_keep_to_http_may_pass(
    serve: Callable[..., Server], wires: Wires, answer: bytes
) -> None:
    def raw(handler: Handler) -> bool:
        handler.wfile.write(answer)
        handler.close_connection = True
        return True

    with pytest.raises(HubError) as error:
        read(wires, url(serve(raw)), 0, 500_000, "hf_secret")
    assert error.value.failure.passing
    assert "hf_secret" not in error.value.failure.message


def test_a_certificate_has_to_be_known(
    serve: Callable[..., Server], wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(tls=True)
    with pytest.raises(HubError, match="CERTIFICATE_VERIFY_FAILED"):
        read(Wires(), url(server, "https"), 0, 9)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    for _ in range(2):
        assert read(wires, url(server, "https"), 3, 2_000_000) == DATA[3:2_000_000]
    with pytest.raises(HubError, match="CERTIFICATE_VERIFY_FAILED"):
        read(wires, url(serve(tls=True, host="127.0.0.2"), "https", "127.0.0.2"), 0, 9)  # it is for other names


def test_a_proxy_is_used_but_not_for_what_is_excepted(
    serve: Callable[..., Server], wires: Wires, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(), serve(tls=True)
    port = proxy.server_address[1]
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    assert read(wires, "http://hub.invalid/x?y", 0, 9) == DATA[:9]
    path, headers = proxy.seen.pop()
    assert (path, headers["host"]) == ("http://hub.invalid/x?y", "hub.invalid")
    assert headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
    assert read(wires, url(server, "https", "localhost"), 0, 9, "hf_x") == DATA[:9]
    path, headers = proxy.seen.pop()
    assert path == f"localhost:{server.server_address[1]}"
    assert "authorization" not in headers
    assert read(wires, url(server, "https"), 0, 9) == DATA[:9]
    assert proxy.seen == []


def test_a_file_that_can_not_be_spliced_into_is_written(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    with near, far, pipe() as ends:
        far.sendall(DATA[:100_000])
        count = fill(ends[1], near, 60_000)
        fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # such a file refuses splice
        Piped(ends[0], count).into(fd, 0)
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == DATA[:count]
    assert count > 0
