"""The dev hub with faults as routes: `http://host:port/drop=1000000/...` is the same hub, but its content breaks off.

`drop=N`, `reset=N`: the connection ends after N bytes of a body, quietly or with a reset. `whole=1`: ranges are not
understood. `status=S` with `times=K`, `retry=SECONDS`: the first K requests for content are answered so. `corrupt=1`:
other bytes of the same size. `crawl=N`: N bytes a second; with `times=K` the first K answers only. `stall=N`: silence
after N bytes. `expire=K`: an address is good for K requests.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from offgridd.devhub.answers import Answer, Request, error
from offgridd.devhub.repos import Repos
from offgridd.devhub.routes import Hub
from offgridd.devhub.serve import PIECE, Handler, serving


@dataclass
class Seen:
    """What the hub counted. `sent`: bytes of content by the prefix of its route."""

    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    count: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def add(self, counter: Counter[str], key: str, by: int = 1) -> int:
        """How many there were before."""
        with self.lock:
            counter[key] += by
            return counter[key] - by


class Faulty(Handler):
    seen: Seen
    prefix = ""
    faults: dict[str, int]

    def request_of(self, target: str, prefix: str = "") -> Request:
        first, _, rest = target[1:].partition("/")
        faulty = "=" in first and "?" not in first
        self.prefix = f"/{first}" if faulty else ""
        self.faults = {k: int(v) for k, _, v in (p.partition("=") for p in first.split(","))} if faulty else {}
        request = super().request_of(f"/{rest}" if faulty else target, self.prefix)
        with self.seen.lock:
            self.seen.requests.append((self.command, target, dict(request.headers)))
        return request

    def answer(self, request: Request) -> Answer:
        faults = self.faults
        if self.content:
            before = self.seen.add(self.seen.count, self.prefix)
            if "status" in faults and before < faults.get("times", 1 << 30):
                wait = {"Retry-After": str(faults["retry"])} if "retry" in faults else {}
                return error(faults["status"], "a fault", headers=wait)
            if "expire" in faults and self.seen.add(self.seen.count, request.query["n"][0]) >= faults["expire"]:
                return error(403, "the signature has expired")
        made = super().answer(request)
        if not self.content and "expire" in faults and "Location" in made.headers:
            number = self.seen.add(self.seen.count, "located")
            made.headers["Location"] += f"&n=at{number}"
        return made

    def send(self, answer: Answer) -> None:
        if answer.blob is not None and self.faults.get("whole"):
            del self.headers["range"]
        super().send(answer)

    def send_file(self, file: BinaryIO, start: int, end: int) -> None:
        faults = self.faults
        limit = min((faults[name] for name in ("drop", "reset", "stall") if name in faults), default=end - start)
        stop = min(end, start + limit)
        if "crawl" in faults:
            slow = self.seen.add(self.seen.count, f"crawl{self.prefix}") < faults.get("times", 1 << 30)
            self.rate, self.at_once = (faults["crawl"], faults["crawl"] // 20 + 1) if slow else (None, PIECE)
        if faults.get("corrupt"):
            self.wfile.write(b"\xff" * (stop - start))
            self.sent(stop - start)
        else:
            super().send_file(file, start, stop)
        if stop < end:
            self._break(faults)

    def sent(self, count: int) -> None:
        self.seen.add(self.seen.sent, self.prefix, count)

    def _break(self, faults: dict[str, int]) -> None:
        self.close_connection = True
        if "reset" in faults:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()  # with unsent bytes and no time to linger that is a reset
        elif "stall" in faults:
            self.seen.ended.wait(60)


@dataclass(frozen=True, slots=True)
class Local:
    """A hub that runs. `url(faults)` is its endpoint with these faults."""

    base: str
    folder: Path
    seen: Seen
    repos: Repos

    def url(self, **faults: int) -> str:
        return self.base + ("/" + ",".join(f"{k}={v}" for k, v in faults.items()) if faults else "")

    def put(self, repo: str, files: dict[str, bytes], **about: Any) -> None:
        """Files of a repository, and what the hub says of it."""
        for name, data in files.items():
            path = self.folder / repo / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if about:
            (self.folder / repo / ".hub.json").write_text(json.dumps(about))
        self.repos.find(repo)  # hashes what is new, so that no request has to wait for that


@contextmanager
def local_hub(folder: Path, rate: float | None = None) -> Iterator[Local]:
    seen, repos = Seen(), Repos(folder)
    handler = type("Counting", (Faulty,), {"seen": seen})
    with serving(Hub(repos), handler, rate=rate) as (base, _):
        try:
            yield Local(base, folder, seen, repos)
        finally:
            seen.ended.set()
