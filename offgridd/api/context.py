"""What the routes work with."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from offgridd.api.jobs import Jobs
from offgridd.api.metrics import Metrics
from offgridd.api.sockets import AdminSocket
from offgridd.api.status import StatusView
from offgridd.core.benchmark import Workload
from offgridd.core.desired import Desired, HubSource, MemorySpec, ModelSpec, UrlSource, Use
from offgridd.core.errors import Failure
from offgridd.core.fit import Limits
from offgridd.core.hub import Pin
from offgridd.core.locking import LockEntry
from offgridd.core.looked import Looked
from offgridd.core.search import Found, Query
from offgridd.core.updates import Look
from offgridd.effects.benchmarks import More, Subject
from offgridd.effects.benchrecords import Row, Taken, Wanted
from offgridd.effects.bundling import Run
from offgridd.engine import wire
from offgridd.reconcile.intake import Seen
from offgridd.reconcile.loop import Reconciler


class WorkerPort(Protocol):
    @property
    def pid(self) -> int: ...
    @property
    def load_seconds(self) -> float: ...
    @property
    def built(self) -> wire.Built: ...
    async def measure(self, asked: wire.Bench | wire.Score) -> wire.Measured | wire.Scored | wire.Refused: ...
    def stream(self, chats: Sequence[wire.Request], quiet: float) -> AsyncGenerator[Any, None]: ...


class WorkersPort(Protocol):
    def serving(self, model: str) -> WorkerPort | None: ...
    def next_request(self) -> int: ...
    def printed(self, model: str) -> str: ...


class KeeperPort(Protocol):
    @property
    def kept(self) -> Mapping[str, ModelSpec]: ...
    async def pull(self, source: HubSource, report: Callable[[int, int], None]) -> ModelSpec: ...
    async def preview(self, source: HubSource) -> tuple[Pin, Collection[str | None]]: ...
    async def pull_web(self, source: UrlSource, sha256: str, report: Callable[[int, int], None]) -> ModelSpec: ...
    async def remove(self, name: str, declared: Collection[str]) -> int: ...
    async def listing(self, declared: Collection[str]) -> list[dict[str, Any]]: ...


class GarbagePort(Protocol):
    async def collect(self, *, remove: bool) -> dict[str, Any]: ...


class CheckerPort(Protocol):
    async def check(
        self, specs: Iterable[ModelSpec], report: Callable[[int, int], None], *, deep: bool
    ) -> dict[str, Any]: ...


class AdopterPort(Protocol):
    async def serve(self, sock: socket.socket, report: Callable[[int, int], None], *, copy: bool) -> dict[str, Any]: ...


class UpdatesPort(Protocol):
    async def look(self, spec: ModelSpec, pin: Pin) -> Look: ...
    async def update(self, spec: ModelSpec, newer: Pin, tell: Callable[[int, int], None]) -> bool: ...


class BundlingPort(Protocol):
    async def export(
        self, run: Run, texts: Iterable[tuple[str, bytes]], models: Mapping[str, tuple[ModelSpec, Pin]]
    ) -> None: ...
    async def take(self, run: Run) -> dict[str, Pin]: ...


class LockerPort(Protocol):
    async def entries(
        self, specs: Sequence[ModelSpec], memory: MemorySpec | None
    ) -> Mapping[str, LockEntry | Failure]: ...


class CatalogKnown(Protocol):
    """`bytes` on disk; seconds since the epoch."""

    @property
    def models(self) -> int: ...
    @property
    def sized(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def oldest(self) -> float | None: ...
    @property
    def newest(self) -> float | None: ...


class SyncerPort(Protocol):
    def known(self) -> CatalogKnown: ...  # blocking
    async def sync(self, query: Query, limit: int, tell: Callable[[int, int], None]) -> dict[str, Any]: ...


class BenchmarksPort(Protocol):
    async def run(
        self, subject: Subject, workload: Workload, tell: Callable[[dict[str, Any]], None], more: More | None
    ) -> dict[str, Any]: ...


class MeasuredPort(Protocol):
    """Blocking; see effects.benchrecords."""

    def listed(self, wanted: Wanted) -> Sequence[dict[str, Any]]: ...
    def take(self, records: Iterable[Row]) -> Taken: ...


class QualityPort(Protocol):
    async def probe(self, subject: Subject, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Machine:
    """`total` bytes of RAM there are, what models may take of them, and what the processor can do."""

    total: int | None
    limits: Limits
    features: frozenset[str]


@dataclass
class Context:
    loop: Reconciler
    workers: WorkersPort
    status: StatusView
    metrics: Metrics
    reload: Callable[..., Awaitable[Seen]]  # rewind: bool
    closing: Callable[[], bool]  # each answer is the last one of its connection
    draining: Callable[[], bool]  # no request is taken any more
    search: Callable[[Query], Found]  # blocking
    keeper: KeeperPort
    jobs: Jobs
    look: Callable[[HubSource, Pin | None, Use], Looked]  # blocking
    pinned: Callable[[str], Pin | None]  # blocking
    machine: Callable[[], Machine]
    locker: LockerPort
    updates: UpdatesPort
    bundling: BundlingPort
    texts: Callable[[], Sequence[tuple[str, bytes]]]  # of the manifest that was accepted last
    garbage: GarbagePort
    checker: CheckerPort
    adopter: AdopterPort
    once: Callable[[], AdminSocket]  # a socket for one connection
    syncer: SyncerPort
    history: Callable[[], Sequence[tuple[int, str, float, str]]]  # blocking; see effects.state
    benchmarks: BenchmarksPort
    quality: QualityPort
    measured: MeasuredPort
    newest: Callable[[], Mapping[str, Mapping[str, Any]]]  # records of declared models, our own
    settings: Mapping[str, tuple[Any, str]]  # of the host: name -> value and origin
    private: bool  # who asks is the daemon's own user
    admin: bool = False  # this app stands on the admin socket

    @property
    def desired(self) -> Desired:
        return self.loop.snapshot.desired
