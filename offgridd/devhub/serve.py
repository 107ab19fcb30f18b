"""The two origins as HTTP servers: the hub itself, and where the content of large files lies."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from offgridd.devhub.answers import Answer, Request, error
from offgridd.devhub.routes import Hub

PIECE = 256 << 10  # bytes that are sent at once
MOST_BODY = 1 << 20
IDLE = 60.0  # seconds without a request, after which a connection is closed
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$|bytes=-(\d+)$")
_SLASH = "\ue000"  # stands for a %2F in a decoded path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has left is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection. Subclasses of it may answer otherwise, to see what a client makes of that."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    hub: Hub
    content = False  # the second origin
    rate: float | None = None  # bytes a second that a connection may have of a file
    at_once = PIECE
    origins: tuple[str, str]

    def do_GET(self) -> None:
        self._reply()

    def do_HEAD(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever wants to see requests has a handler of their own."""

    def request_of(self, target: str, prefix: str = "") -> Request:
        """What was asked for at `target`; `prefix` is what a subclass took off its path."""
        parts = urlsplit(target)
        path = unquote(parts.path.replace("%2F", _SLASH).replace("%2f", _SLASH)).replace(_SLASH, "%2F")
        length = self.headers.get("content-length", "0")
        body = self.rfile.read(int(length)) if length.isdigit() and int(length) <= MOST_BODY else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        base, cdn = self.origins
        return Request(
            self.command,
            path,
            parse_qs(parts.query, keep_blank_values=True),
            headers,
            body,
            base + prefix,
            cdn + prefix,
        )

    def answer(self, request: Request) -> Answer:
        return self.hub.content(request) if self.content else self.hub.answer(request)

    def _reply(self) -> None:
        try:
            self.send(self.answer(self.request_of(self.path)))
        except ValueError as wrong:  # a number in the query that is none
            self.send(error(400, f"cannot read the request: {wrong}"))
        except OSError:
            self.close_connection = True  # the client has left

    def send(self, answer: Answer) -> None:
        if answer.blob is not None:
            self._send_blob(answer)
            return
        self.head(answer.status, {**answer.headers, "Content-Length": str(len(answer.body))})
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_blob(self, answer: Answer) -> None:
        blob = answer.blob
        assert blob is not None
        headers = {"Accept-Ranges": "bytes", **answer.headers}
        found = part_of(self.headers.get("range"), blob.size)
        if found is None:
            self.head(416, {**headers, "Content-Range": f"bytes */{blob.size}", "Content-Length": "0"})
            return
        start, end = found
        whole = self.headers.get("range") is None
        headers["Content-Length"] = str(end - start)
        if not whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        with blob.path.open("rb") as file:
            self.head(200 if whole else 206, headers)
            if self.command != "HEAD":
                self.send_file(file, start, end)

    def send_file(self, file: BinaryIO, start: int, end: int) -> None:
        """The body: bytes `start` to `end` of the file, no faster than `rate`."""
        began, at = time.monotonic(), start
        while at < end:
            sent = self._some(file, at, min(self.at_once, end - at))
            if sent == 0:
                self.close_connection = True  # the file became shorter
                return
            at += sent
            self.sent(sent)
            if self.rate is not None:
                time.sleep(max(0.0, began + (at - start) / self.rate - time.monotonic()))

    def _some(self, file: BinaryIO, at: int, count: int) -> int:
        """Sends from the file as much as goes at once, at least one byte; 0 at its end. Raises OSError."""
        while True:
            try:
                return os.sendfile(self.connection.fileno(), file.fileno(), at, count)
            except (
                BlockingIOError
            ):  # a socket with a timeout does not block: this client reads more slowly than we send
                ready = select.poll()
                ready.register(self.connection, select.POLLOUT)
                if not ready.poll(self.timeout * 1000):
                    raise TimeoutError("the client has stopped reading") from None

    def sent(self, count: int) -> None:
        """So many bytes of a file went out; for subclasses that count."""


def part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes that a Range header asks for, as start and end; None where there are none. No header: all."""
    if header is None:
        return 0, size
    found = _RANGE.match(header)
    if found is None:
        return 0, size
    if found[3] is not None:
        return (max(0, size - int(found[3])), size) if int(found[3]) else None
    start, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    return (start, min(end, size)) if start < min(end, size) else None


@contextmanager
def serving(
    hub: Hub,
    handler: type[Handler] = Handler,
    *,
    host: str = "127.0.0.1",
    ports: tuple[int, int] = (0, 0),
    rate: float | None = None,
) -> Iterator[tuple[str, str]]:
    """Both origins, in threads of their own, while the block runs; gives their URLs. Raises OSError."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_Server((host, port), Handler)) for port in ports]
        name = f"[{host}]" if ":" in host else host
        origins = tuple(f"http://{name}:{server.server_address[1]}" for server in servers)
        for server, content in zip(servers, (False, True), strict=True):
            made = {"hub": hub, "content": content, "rate": rate, "origins": origins}
            server.RequestHandlerClass = type(handler.__name__, (handler,), made)
            server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield origins[0], origins[1]
