"""One file of a hub into the store: what is there is not fetched, what is fetched is verified. Blocking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError
from offgridd.core.sizes import show_size
from offgridd.effects.store import Store
from offgridd.effects.transfer.fetch import Fetch
from offgridd.effects.transfer.pace import Limits, Stopped
from offgridd.effects.transfer.part import PartInUse
from offgridd.effects.transfer.server import Origin


@dataclass(frozen=True, slots=True)
class Wanted:
    """`provenance` is noted beside the blob; `min_free` bytes of the file system are left alone."""

    name: str  # of the file, for people
    sha256: str
    size: int  # bytes
    origin: Origin
    provenance: dict[str, Any]
    min_free: int = 2 << 30


class Download:
    """One file on its way. `limits` is asked as it goes.

    `progress` hears bytes that are here and bytes in all, in any thread.
    """

    def __init__(
        self, store: Store, wanted: Wanted, limits: Callable[[], Limits], progress: Callable[[int, int], None]
    ) -> None:
        self._store, self._wanted, self._limits, self._progress = store, wanted, limits, progress
        self._fetch: Fetch | None = None
        self._stopped = False

    def stop(self) -> None:
        """`run` ends soon with Stopped; what is here stays for the next time."""
        self._stopped = True
        if self._fetch is not None:
            self._fetch.stop()

    def run(self) -> Path:
        """The blob. Raises ActionFailed, Stopped."""
        wanted = self._wanted
        if self._store.has(wanted.sha256, wanted.size):
            self._store.tidy(wanted.sha256)
            return self._store.blob(wanted.sha256)
        try:
            return self._get()
        except HubError as error:
            failure = error.failure
            raise _failed(failure.reason, failure.message, terminal=not failure.passing) from error
        except PartInUse:
            raise _failed("InUse", f"cannot fetch {wanted.name}: another process fetches it") from None
        except OSError as error:
            reason = {28: "InsufficientDisk", 122: "InsufficientDisk", 30: "ReadOnly"}.get(
                error.errno or 0, "Unwritable"
            )
            raise _failed(reason, f"cannot store {wanted.name}: {error.strerror or error}") from error

    def _get(self) -> Path:
        wanted = self._wanted
        part = self._store.part(wanted.sha256, wanted.size)
        try:
            self._check_room(wanted.size - part.pieces.here)
            came = part.pieces.here
            self._progress(came, wanted.size)

            def note(count: int) -> None:
                nonlocal came
                came += count  # the threads may lose some of it to each other; the end is exact
                self._progress(min(came, wanted.size), wanted.size)

            self._fetch = Fetch(part, wanted.origin, self._limits, note)
            if self._stopped:
                raise Stopped
            found = self._fetch.run()
            if found != wanted.sha256:
                self._store.quarantine(part, wanted.sha256)
                text = f"cannot use {wanted.name}: its sha256 is {found}, the hub says {wanted.sha256}"
                raise _failed("DigestMismatch", text, condition="Verified")
            return self._store.keep(part, wanted.sha256, wanted.provenance)
        finally:
            part.close()

    def _check_room(self, missing: int) -> None:
        """Raises ActionFailed, before the first byte."""
        free = self._store.free()
        if missing + self._wanted.min_free > free:
            need, kept = show_size(missing), show_size(self._wanted.min_free)
            text = f"cannot fetch {self._wanted.name}: it needs {need}, {kept} are to stay free, and there are"
            text += f" {show_size(free)}; free some, or lower store.min_free"
            raise _failed("InsufficientDisk", text)


def _failed(reason: str, message: str, *, terminal: bool = False, condition: str = "Downloaded") -> ActionFailed:
    return ActionFailed(Failure(condition, reason, message, terminal))
