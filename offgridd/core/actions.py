"""What the plan may start. Each action names its model; `key` says what it was started for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from offgridd.core.desired import DEFAULT_USE, LoadSpec, RemoteSource, Source, Use
from offgridd.core.hub import Pin
from offgridd.core.observed import Charge, Short, VerifiedFile

Why = Literal["replaced", "removed", "idle", "unloaded", "evicted"]


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask a hub, or a server of the web, what a source means. Ends with `Resolved` or `VerifyFailed`."""

    model: str
    source: RemoteSource
    sha256: str | None
    key: str
    use: Use = DEFAULT_USE  # where the choice is bounded by memory


@dataclass(frozen=True, slots=True)
class Verify:
    """Find the file of a source, check its header, hash it. Ends with `Verified` or `VerifyFailed`.

    With a pin the file is a blob of the store, and fetched first where it is not there.
    """

    model: str
    source: Source
    sha256: str | None
    key: str
    pin: Pin | None = None
    adapter: bool = False  # it has to be a LoRA adapter


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Spawn a worker and load the file. Ends with `WorkerReady`, `WorkerExited` or `StartFailed`."""

    model: str
    file: VerifiedFile
    load: LoadSpec
    cache_ram: int  # bytes
    key: str
    charge: Charge = Charge(0)
    beside: bool = False  # other workers serve: it loads with one thread
    cache_disk: int = 0  # bytes
    shelf: str = ""  # what the states that it saves depend on; "": it keeps none on disk


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Let a worker finish its requests within `drain` seconds, then end it. Takes effect at once."""

    model: str
    worker: int
    drain: float
    why: Why = "replaced"
    by: str = ""  # for whom it makes room


@dataclass(frozen=True, slots=True)
class LimitCache:
    """Let a worker keep so many bytes of finished prefixes, and so many on disk. Takes effect at once."""

    model: str
    worker: int
    bytes: int
    disk: int = 0


Action = Resolve | Verify | StartWorker | StopWorker | LimitCache


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now: actions to start, models whose running action is void, and when to look again (monotonic).

    `short`: models that there is no room for; `given_up`: those of them that nobody waits for any more.
    """

    start: tuple[Action, ...] = ()
    cancel: tuple[str, ...] = ()
    wake_at: float | None = None
    short: Mapping[str, Short] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.start and not self.cancel
