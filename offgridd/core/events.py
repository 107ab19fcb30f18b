"""What happened, as past participles. The loop folds them into `Observed`; nobody else writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offgridd.core.actions import Why
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin
from offgridd.core.observed import (
    Charge,
    Effective,
    HostFacts,
    Identity,
    ManifestFacts,
    Result,
    Short,
    Verdict,
    VerifiedFile,
)
from offgridd.core.tuned import Trial, Tuning
from offgridd.core.updates import Look


@dataclass(frozen=True, slots=True)
class ActionStarted:
    model: str
    key: str
    charge: Charge | None = None  # of the worker that it starts


@dataclass(frozen=True, slots=True)
class ActionEnded:
    """The running action of a model is over, cancelled or not; what came of it is an event of its own."""

    model: str


@dataclass(frozen=True, slots=True)
class Resolved:
    model: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class NetworkAwaited:
    """A model's hub is asked, or its bytes are fetched: how long that takes nobody knows."""

    model: str


@dataclass(frozen=True, slots=True)
class Verified:
    model: str
    file: VerifiedFile


@dataclass(frozen=True, slots=True)
class VerifyFailed:
    """No verified file came of a Resolve or a Verify; the failure's condition says how far it went."""

    model: str
    key: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Benchmarked:
    """A benchmark was kept, now or in an earlier life."""

    model: str
    result: Result


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of measuring what is declared of a model; None: it is open again."""

    model: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Challenged:
    """A newer file of a model is tried beside the one that serves."""

    model: str


@dataclass(frozen=True, slots=True)
class Unchallenged:
    """It is not any more."""

    model: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What is declared of a model was judged and is not worse: its worker serves from now on. `spec`: what was judged.

    A newer file is tried under the very spec that the model has.
    """

    model: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Tuned:
    """How far the search for a model's fastest settings is; None: there is none any more."""

    model: str
    tuning: Tuning | None


@dataclass(frozen=True, slots=True)
class Retuned:
    """Somebody wants that search again. What it found stays until the new one has found something."""

    model: str


@dataclass(frozen=True, slots=True)
class TrialChosen:
    """What that search has loaded beside what serves from now on."""

    trial: Trial | None


@dataclass(frozen=True, slots=True)
class UpdateSeen:
    """A hub was asked whether it has something newer."""

    model: str
    look: Look


@dataclass(frozen=True, slots=True)
class Updated:
    """A model is pinned to something newer, whose files are here and verified."""

    model: str
    pin: Pin
    file: VerifiedFile


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The parts of a verified file were looked at again; None = one is gone or is no regular file any more."""

    model: str
    identities: tuple[Identity, ...] | None


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    model: str
    worker: int
    pid: int
    key: str
    cache_ram: int  # bytes of finished prefixes that it was told to keep
    charge: Charge = Charge(0)
    cache_disk: int = 0  # and on disk


@dataclass(frozen=True, slots=True)
class WorkerReady:
    model: str
    worker: int
    effective: Effective


@dataclass(frozen=True, slots=True)
class WorkerStopping:
    model: str
    worker: int
    why: Why = "replaced"
    by: str = ""  # for whom it makes room


@dataclass(frozen=True, slots=True)
class Measured:
    """A worker has taken so many bytes of its own, more than it was charged with."""

    model: str
    key: str
    peak: int


@dataclass(frozen=True, slots=True)
class CacheLimited:
    """A worker was told how many bytes of finished prefixes to keep, and how many on disk."""

    model: str
    worker: int
    bytes: int
    disk: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker's process is gone. `failure` is None when it was told to go."""

    model: str
    worker: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class StartFailed:
    """No process came of a StartWorker."""

    model: str
    key: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Removed:
    """A model is declared no more; its workers have `drain` seconds, as was declared last."""

    model: str
    drain: float


@dataclass(frozen=True, slots=True)
class Demanded:
    """Somebody asked for a model that is loaded on demand; `gently`: no other one is to leave for it."""

    model: str
    gently: bool = False


@dataclass(frozen=True, slots=True)
class KeptDemanded:
    """Somebody asked for a file that is kept and not declared."""

    model: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Used:
    """Requests of a model began to wait or to be answered (1), or ended (-1).

    What is `apart`, a benchmark, keeps the model where it is and is no reason to keep it longer.
    """

    model: str
    by: int
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Somebody wants a model that is loaded on demand to leave the memory."""

    model: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What the newest plan said: there is no room for these, and nobody waits for those of them."""

    short: Mapping[str, Short]
    given_up: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSeen:
    host: HostFacts


@dataclass(frozen=True, slots=True)
class KeptRemoved:
    """A file is kept no more."""

    model: str


@dataclass(frozen=True, slots=True)
class Reconsidered:
    """Somebody said reconcile: failures are forgotten, so that everything is tried again. None = every model."""

    model: str | None = None


@dataclass(frozen=True, slots=True)
class Reranked:
    """Its rank or the budget is another one: that it made room once says nothing now."""

    model: str


@dataclass(frozen=True, slots=True)
class ManifestSeen:
    """The manifest was read (or could not be); the desired state itself travels apart."""

    facts: ManifestFacts


@dataclass(frozen=True, slots=True)
class Listening:
    on: bool


@dataclass(frozen=True, slots=True)
class Stopping:
    """The daemon ends: nothing is started any more."""


Event = (
    ActionStarted
    | ActionEnded
    | Resolved
    | NetworkAwaited
    | Verified
    | VerifyFailed
    | Benchmarked
    | Decided
    | Challenged
    | Unchallenged
    | Taken
    | Tuned
    | Retuned
    | TrialChosen
    | UpdateSeen
    | Updated
    | FileSeen
    | WorkerStarted
    | WorkerReady
    | WorkerStopping
    | CacheLimited
    | WorkerExited
    | StartFailed
    | Removed
    | Demanded
    | KeptDemanded
    | Used
    | Unloaded
    | Judged
    | HostSeen
    | Measured
    | KeptRemoved
    | Reconsidered
    | Reranked
    | ManifestSeen
    | Listening
    | Stopping
)
