"""What `offgridd.lock` says of a model's source, held against what the manifest asks for now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from offgridd.core.adapters import adapters_of, with_adapters_of
from offgridd.core.desired import HUB, HubSource, ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import question_key
from offgridd.core.sizes import show_size

LOCK_FILE = "offgridd.lock"  # beside the manifest
LOCKED = "offgridd.lock says so"


@dataclass(frozen=True, slots=True)
class LockEntry:
    """What a source was found to mean. `asked` is `asked_of` the source; `endpoint` only says where it was found."""

    asked: HubSource
    endpoint: str
    commit: str
    quant: str | None
    files: tuple[HubFile, ...]  # each with its sha256

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)


Lock = Mapping[str, LockEntry]  # by model, and by MODEL+ADAPTER


def asked_of(source: HubSource) -> HubSource:
    """The part of a source that a lock answers: not how the hub is reached, and no limit on what it found."""
    return replace(source, endpoint=HUB, token=None, max_size=None)


def entry_of(source: HubSource, pin: Pin) -> LockEntry:
    """What is locked where `source` was found to mean `pin`."""
    return LockEntry(asked_of(source), source.endpoint, pin.commit, pin.quant, pin.files)


def wanting(models: Mapping[str, ModelSpec], lock: Lock, update: Collection[str]) -> tuple[ModelSpec, ...]:
    """The models, and adapters, whose source has to be asked for: `lock` does not answer it, or they are in `update`.

    A model that is updated is so with its adapters.
    """
    update = {*update, *adapters_of(spec for spec in models.values() if spec.name in update)}
    of_hub = (spec for spec in with_adapters_of(models).values() if isinstance(spec.source, HubSource))
    return tuple(s for s in of_hub if s.name in update or not isinstance(locked(s, lock), Pin))


def locked(spec: ModelSpec, lock: Lock) -> Pin | Failure | None:
    """What the lock has for a model; None for one whose source is none of a hub's. Failures are of `Resolved`."""
    if not isinstance(spec.source, HubSource):
        return None
    entry = lock.get(spec.name)
    if entry is None:
        return _refused("NotLocked", f"cannot use {spec.name}: {LOCK_FILE} does not name it; run offgrid lock")
    if differs := _difference(spec, spec.source, entry):
        return _refused("LockOutdated", f"cannot use {spec.name}: {differs}; run offgrid lock")
    return Pin(question_key(spec), entry.asked.repo, entry.commit, entry.files, entry.quant, LOCKED)


def _difference(spec: ModelSpec, source: HubSource, entry: LockEntry) -> str:
    asked, was = asked_of(source), entry.asked
    for name in ("repo", "file", "revision", "quants"):
        now, then = getattr(asked, name), getattr(was, name)
        if now != then:
            return f"it asks for {_shown(name, now)}, {LOCK_FILE} answers {_shown(name, then)}"
    if source.max_size is not None and entry.size > source.max_size:
        return f"its files have {show_size(entry.size)}, max_size is {show_size(source.max_size)}"
    if spec.sha256 is not None and [f.sha256 for f in entry.files] != [spec.sha256]:
        return f"the manifest wants another sha256 than {LOCK_FILE} has"
    return ""


def _shown(name: str, value: str | tuple[str, ...] | None) -> str:
    if name == "quants":
        return " or ".join(value or ("auto",)) + " as quant"
    return f"{name} {value}" if value is not None else f"no {name}"


def _refused(reason: str, message: str) -> Failure:
    return Failure("Resolved", reason, message, terminal=True)
