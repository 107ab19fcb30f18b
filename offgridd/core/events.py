"""What happened, as past participles. The loop folds them into `Observed`; nobody else writes it."""

from __future__ import annotations

from dataclasses import dataclass

from offgridd.core.desired import ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.hub import Pin
from offgridd.core.observed import Effective, Identity, ManifestFacts, VerifiedFile
from offgridd.core.updates import Look


@dataclass(frozen=True, slots=True)
class ActionStarted:
    model: str
    key: str


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


@dataclass(frozen=True, slots=True)
class WorkerReady:
    model: str
    worker: int
    effective: Effective


@dataclass(frozen=True, slots=True)
class WorkerStopping:
    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class CacheLimited:
    """A worker was told how many bytes of finished prefixes to keep."""

    model: str
    worker: int
    bytes: int


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
    """Somebody asked for a model that is loaded on demand."""

    model: str


@dataclass(frozen=True, slots=True)
class KeptDemanded:
    """Somebody asked for a file that is kept and not declared; another one that was served makes room."""

    model: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class KeptUsed:
    """Requests for a kept file began (1) or ended (-1)."""

    model: str
    by: int


@dataclass(frozen=True, slots=True)
class KeptRemoved:
    """A file is kept no more."""

    model: str


@dataclass(frozen=True, slots=True)
class Reconsidered:
    """Somebody said reconcile: failures are forgotten, so that everything is tried again. None = every model."""

    model: str | None = None


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
    | KeptUsed
    | KeptRemoved
    | Reconsidered
    | ManifestSeen
    | Listening
    | Stopping
)
