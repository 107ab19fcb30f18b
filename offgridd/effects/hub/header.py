"""The header of a file that lies at a hub, read by a few requests for ranges of it. Blocking: call it in a thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offgridd.core.hub import HubError, HubFailure, Target
from offgridd.effects.gguf import read_remote
from offgridd.effects.hub.client import WHOLE, HubClient
from offgridd.effects.hub.content import Wires
from offgridd.effects.transfer.verdict import Verdict, judge

if TYPE_CHECKING:
    from offgridd.core.observed import ModelHeader

PIECE = 2 << 20  # bytes of a request: most headers are in the first three
MOST = 64 << 20  # bytes that are read of a header


def remote_header(client: HubClient, repo: str, commit: str, paths: Sequence[str]) -> ModelHeader:
    """What a model's files, its shards in order, say of themselves. Raises HubError, and GgufError for what is bad."""
    targets = [client.resolve(repo, commit, path) for path in paths]
    with closing(Wires()) as wires:
        ranges = [_Ranges(wires, target, client.token if target.direct else None) for target in targets]
        return read_remote([(one.read, one.target.size) for one in ranges])


@dataclass(slots=True)
class _Ranges:
    """The file's bytes from where the last request began; it is read forwards."""

    wires: Wires
    target: Target
    token: str | None
    until: float = field(default_factory=lambda: time.monotonic() + WHOLE)
    _start: int = 0
    _bytes: bytes = b""
    _read: int = 0  # in all

    def read(self, count: int, at: int) -> bytes:
        """`count` bytes from `at` on, fewer at the end. Raises HubError."""
        if not self._start <= at <= at + count <= self._start + len(self._bytes):
            self._ask(at, min(at + max(count, PIECE), self.target.size))
        return self._bytes[at - self._start : at - self._start + count]

    def _ask(self, start: int, end: int) -> None:
        if self._read + end - start > MOST:
            raise _unreadable(f"it goes on beyond {MOST} bytes", passing=False)
        if time.monotonic() > self.until:
            raise HubError(HubFailure("HubSlow", "cannot read the file's header: its server is too slow", passing=True))
        found = bytearray()
        with self.wires.open(self.target.url, start, end, self.token) as content:
            verdict = judge(content.status, content.headers, start, end, self.target.size)
            if verdict is not Verdict.TAKE and not (verdict is Verdict.WHOLE and start == 0):
                raise _unreadable(f"its server answers {content.status}", passing=True)
            for data in content.pieces:
                found += data if isinstance(data, bytes) else data.read()
                if len(found) >= end - start:  # a server that knows no ranges would send all of it
                    break
        if len(found) < end - start:
            raise _unreadable("its server broke off", passing=True)
        self._start, self._bytes = start, bytes(found[: end - start])
        self._read += end - start


def _unreadable(why: str, *, passing: bool) -> HubError:
    return HubError(HubFailure("HeaderUnavailable", f"cannot read the file's header: {why}", passing))
