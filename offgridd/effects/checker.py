"""Verifies again what was verified once: by its identity, or by reading all of it.

What the store has and has changed is put away, and fetched again as any file is; of other files it only tells.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.desired import ModelSpec
from offgridd.core.errors import ActionFailed
from offgridd.core.hub import Pin
from offgridd.core.observed import Identity
from offgridd.core.verifying import Subject, Verdict, subjects
from offgridd.effects.files import Files, identity_of
from offgridd.effects.getting import told
from offgridd.effects.gguf import GgufError, open_regular
from offgridd.effects.holds import Holds
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Stopped
from offgridd.effects.updates import Now

SHARE = 0.5  # of the time in which it reads: the disk and the processor are others', too
_PIECE = 4 << 20  # bytes read at once
Report = Callable[[int, int], None]


class PinsPort(Protocol):
    def all(self) -> Mapping[str, Pin]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file was found to be; `identity` is of the one that was looked at."""

    subject: Subject
    state: Verdict
    why: str = ""
    identity: Identity | None = None
    sha256: str | None = None
    size: int = 0


class Checker:
    def __init__(self, store: Store, holds: Holds, files: Files, pins: PinsPort, now: Now) -> None:
        self._store, self._holds, self._files, self._pins, self._now = store, holds, files, pins, now
        self._one = anyio.CapacityLimiter(1)

    async def check(
        self, specs: Iterable[ModelSpec], report: Report, *, deep: bool, share: float = SHARE
    ) -> dict[str, Any]:
        """A row for each file. `deep`: all bytes are read, whatever is remembered of the file. Raises ActionFailed.

        `share`: of the time in which it reads.
        """
        pins = await anyio.to_thread.run_sync(self._pins.all)
        look = _Look(
            self._store, self._files, subjects(specs, self._now.observed(), pins), report, share if deep else None
        )
        seen = await interruptible(partial(told, look.run, "Verified"), look.stop, self._one)
        rows = [_row(one, await self._repaired(one)) for one in seen]
        return {"files": rows, "good": all(row["state"] == "ok" for row in rows)}

    async def _repaired(self, seen: Seen) -> str | None:
        """What is done about it: nothing, where nothing can be."""
        subject = seen.subject
        if seen.state in ("ok", "unreadable") or subject.sha256 is None:
            return None
        done = "verified again"
        if subject.path is None and seen.state == "changed":
            async with self._holds.alone([subject.sha256]):
                try:
                    away = await anyio.to_thread.run_sync(told, partial(self._put_away, seen))
                except ActionFailed as failed:
                    return f"not put away: {failed.failure.message}"
            done = "quarantined" if away else done
        elif seen.identity is not None:
            await anyio.to_thread.run_sync(self._files.forget, seen.identity)
        for model in subject.models:
            self._now.emit(ev.FileSeen(model, None))  # the loop finds, verifies and fetches it anew
        return done

    def _put_away(self, seen: Seen) -> bool:
        """False where it is another file by now."""
        assert seen.subject.sha256 is not None
        assert seen.identity is not None
        try:
            about = os.stat(self._store.blob(seen.subject.sha256), follow_symlinks=False)
        except FileNotFoundError:
            return False
        if identity_of(about) != seen.identity:
            return False
        self._files.forget(seen.identity)
        self._store.put_away(seen.subject.sha256)
        return True


class _Look:
    """One look at all of them. Blocking. `share`: of the time in which it reads all bytes; None: only what it must."""

    def __init__(self, store: Store, files: Files, these: list[Subject], report: Report, share: float | None) -> None:
        self._store, self._files, self._these, self._report = store, files, these, report
        self._deep, self._share = share is not None, share or SHARE
        self._stopped = threading.Event()
        self._read, self._size = 0, sum(one.size for one in these)

    def stop(self) -> None:
        """In any thread."""
        self._stopped.set()

    def run(self) -> list[Seen]:
        """Raises Stopped."""
        return [self._seen(one) for one in self._these]

    def _seen(self, one: Subject) -> Seen:
        if one.sha256 is None:
            return Seen(one, "missing", one.why)
        before = self._read
        try:
            fd = open_regular(one.path or self._store.blob(one.sha256))
            try:
                return self._judged(one, one.sha256, fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return Seen(one, "missing", "there is no such file")
        except GgufError as error:
            return Seen(one, "unreadable", error.message)
        except OSError as error:
            return Seen(one, "unreadable", error.strerror or errno.errorcode.get(error.errno or 0, "an error"))
        finally:
            self._read = before + one.size

    def _judged(self, one: Subject, wanted: str, fd: int) -> Seen:
        """Raises OSError, Stopped."""
        identity = identity_of(os.fstat(fd))
        known = self._files.remembered(identity)
        digest = self._hashed(fd) if self._deep or known is None else known
        if identity_of(os.fstat(fd)) != identity:
            return Seen(one, "changed", "it changed while it was read", identity, None, identity.size)
        if digest != wanted:
            return Seen(one, "changed", f"its sha256 is {digest}", identity, digest, identity.size)
        if known != digest:
            self._files.remember(identity, digest)
        return Seen(one, "ok", "", identity, digest, identity.size)

    def _hashed(self, fd: int) -> str:
        if self._deep:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # what lies on the disk, not what memory has of it
        digest, at = hashlib.sha256(), 0
        while True:
            began = time.monotonic()
            piece = os.pread(fd, _PIECE, at)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)
            at += len(piece)
            self._report(min(self._read + at, self._size), self._size)
            if self._stopped.wait((time.monotonic() - began) * (1 / self._share - 1)):
                raise Stopped


def _row(seen: Seen, then: str | None) -> dict[str, Any]:
    subject = seen.subject
    return {"file": subject.file, "models": list(subject.models), "in_store": subject.path is None, "size": seen.size,
            "state": seen.state, "why": seen.why or None, "sha256": subject.sha256, "found": seen.sha256,
            "then": then}  # fmt: skip
