"""A remote over HTTP that says and sends what a test wants: the smart protocol, version 0, without any judgement."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def _line(data: bytes) -> bytes:
    return b"%04x" % (len(data) + 4) + data


class LyingGit:
    """`head` is what main is at; `pack` is sent to whoever asks; `error` instead of all, where there is one."""

    def __init__(self, url: str) -> None:
        self.url, self.head, self.pack, self.error = url, "1" * 40, b"", b""

    def refs(self) -> bytes:
        begin = _line(b"# service=git-upload-pack\n") + b"0000"
        if self.error:
            return begin + _line(b"ERR " + self.error)
        head = self.head.encode()
        return begin + _line(head + b" HEAD\0ofs-delta\n") + _line(head + b" refs/heads/main\n") + b"0000"


@contextmanager
def lying_git() -> Iterator[LyingGit]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer("advertisement", remote.refs())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer("result", _line(b"NAK\n") + remote.pack)

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    remote = LyingGit(f"http://127.0.0.1:{server.server_port}/r")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
