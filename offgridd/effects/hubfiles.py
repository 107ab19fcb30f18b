"""Models of a hub: what a source means is asked once and pinned; its files are fetched into the store and verified."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.to_thread

from offgridd.core.actions import Resolve, Verify
from offgridd.core.desired import DEFAULT_USE, HubSource, StoreSpec, Use
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, HubFile
from offgridd.core.observed import Pin, VerifiedFile
from offgridd.core.pinning import pin
from offgridd.core.sizes import show_size
from offgridd.effects.files import Files
from offgridd.effects.hubaccess import HubAccess
from offgridd.effects.hublook import host_for
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Stopped

if TYPE_CHECKING:
    from offgridd.effects.download import Download

log = logging.getLogger("offgridd")
ASKED_AT_ONCE, FETCHED_AT_ONCE = 4, 2
MISMATCHES = 2  # of a file's digest, after which it is not fetched again by itself
_T = TypeVar("_T")
Heard = Callable[[int, int], None]  # bytes here, bytes in all; when it is over: 0, 0


class PinsPort(Protocol):
    def get(self, model: str) -> Pin | None: ...
    def keep(self, model: str, pin: Pin) -> bool: ...


class HubFiles:
    """`pins` outlive the daemon; `spec` gives the present settings of the store.

    `report` hears of each model's progress, in any thread; `waits` that a model waits for the network, in the loop's.
    """

    def __init__(
        self, store: Store, files: Files, pins: PinsPort, access: HubAccess, spec: Callable[[], StoreSpec],
        report: Callable[[str, int, int], None], waits: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._store, self._files, self._pins, self._access, self._spec = store, files, pins, access, spec
        self._report, self._waits = report, waits
        self._asking = anyio.CapacityLimiter(ASKED_AT_ONCE)
        self._fetching = anyio.CapacityLimiter(FETCHED_AT_ONCE)
        self._locks: dict[str, anyio.Lock] = {}  # by sha256: a blob has one writer
        self._mismatches: Counter[str] = Counter()
        self._coming: dict[str, int] = {}  # by sha256: bytes that running downloads have still to write

    async def resolve(self, action: Resolve) -> Pin:
        """Raises ActionFailed."""
        known = await anyio.to_thread.run_sync(self._pins.get, action.model)
        if known is not None and known.key == action.key:
            return known
        self._waits(action.model)
        ask = partial(self.ask, action.source, action.key, action.sha256, action.use)
        found = await anyio.to_thread.run_sync(ask, limiter=self._asking, abandon_on_cancel=True)
        # Here, not in the thread: one that was given up may end after the question has changed.
        await anyio.to_thread.run_sync(self._pins.keep, action.model, found)
        return found

    async def fetch(self, action: Verify, heard: Heard | None = None) -> VerifiedFile:
        """The verified blob; it is fetched first where it is not there. Raises ActionFailed."""
        assert action.pin is not None
        (file,) = action.pin.files
        assert file.sha256 is not None
        async with self._locks.setdefault(file.sha256, anyio.Lock()):
            if not self._store.has(file.sha256, file.size):
                self._waits(action.model)
                await self._get(action, file, heard or partial(self._report, action.model))
            return await anyio.to_thread.run_sync(_told, partial(self._verify, action, file))

    async def _get(self, action: Verify, file: HubFile, heard: Heard) -> None:
        getting = _Getting(partial(self._download, action, file, heard))

        def run() -> None:
            path = _told(getting.run)
            self._files.learn(path, str(file.sha256))

        try:
            await interruptible(run, getting.stop, self._fetching)
        except Stopped:
            raise RuntimeError("a download was stopped and not cancelled") from None
        except ActionFailed as failed:
            raise self._counted(str(file.sha256), failed) from None
        finally:
            self._coming.pop(str(file.sha256), None)
            heard(0, 0)

    def _counted(self, sha256: str, failed: ActionFailed) -> ActionFailed:
        """A hub whose digest is wrong would have us fetch the same bytes for ever."""
        if failed.failure.reason != "DigestMismatch":
            return failed
        self._mismatches[sha256] += 1
        if self._mismatches[sha256] < MISMATCHES:
            return failed
        del self._mismatches[sha256]
        text = f"{failed.failure.message}; fetched {MISMATCHES} times: edit the model or run offgrid reconcile"
        return ActionFailed(replace(failed.failure, message=text, terminal=True))

    def _verify(self, action: Verify, file: HubFile) -> VerifiedFile:
        """What the store has, looked at as any file is; what rots is put away and fetched again."""
        assert file.sha256 is not None
        path = self._store.blob(file.sha256)
        self._store.tidy(file.sha256)  # a kill may have come right behind the rename
        self._store.note(file.sha256, self._note(action, file))
        try:
            found = self._files.verify_blob(path, replace(action, sha256=None))  # the pin was held against that
            digest = found.sha256
        except ActionFailed as failed:
            if failed.failure.reason == "FileNotFound":  # it was taken away this very moment
                raise _failed("Downloaded", "BlobGone", failed.failure.message) from None
            digest = self._files.digest_of(path)
            if digest == file.sha256:
                raise
        if digest != file.sha256:
            self._store.put_away(file.sha256)
            text = f"cannot use {file.path}: what the store has of it was changed; it is fetched again"
            raise _failed("Verified", "DigestMismatch", text)
        return found

    def ask(self, source: HubSource, key: str, sha256: str | None = None, use: Use = DEFAULT_USE) -> Pin:
        """What `source` means now. Blocking. Raises ActionFailed."""
        return _told(partial(self._ask, source, key, sha256, use), "Resolved")

    def _ask(self, source: HubSource, key: str, sha256: str | None, use: Use) -> Pin:
        try:
            client = self._access.client(source.endpoint, source.token)
            tree = client.tree(source.repo, source.revision or "main")
            host = host_for(self._access, client, source, tree, use)
        except HubError as error:
            known = self._store.pinned(key)
            if known is not None:
                return known
            raise _of_hub("Resolved", error) from error
        made = pin(source, tree, key, sha256, host)
        if isinstance(made, Failure):
            raise ActionFailed(made)
        return made

    def _download(self, action: Verify, file: HubFile, heard: Heard) -> Download:
        """Made when its turn has come, so that all of it is what is declared now. Raises ActionFailed."""
        from offgridd.effects.download import Download, Wanted
        from offgridd.effects.transfer.server import Options, Origin

        pinned, source, spec = action.pin, action.source, self._spec()
        assert pinned is not None
        assert isinstance(source, HubSource)
        assert file.sha256 is not None
        others = sum(self._coming.values())
        if spec.max_total is not None and (total := self._store.total() + others + file.size) > spec.max_total:
            text = f"cannot fetch {file.path}: the store would hold {show_size(total)}, store.max_total is "
            raise _failed("Downloaded", "StoreFull", text + show_size(spec.max_total))
        try:
            client = self._access.client(source.endpoint, source.token)
        except HubError as error:
            raise _of_hub("Downloaded", error) from error
        self._coming[file.sha256] = file.size
        origin = Origin(lambda: client.resolve(pinned.repo, pinned.commit, file.path), client.token,
                        f"{source.endpoint}/{pinned.repo}", lambda: self._access.offline)  # fmt: skip
        wanted = Wanted(file.path, file.sha256, file.size, origin, self._note(action, file), spec.min_free + others)
        options = Options(spec.connections, float(spec.rate) if spec.rate else None)

        def hears(here: int, size: int) -> None:
            self._coming[str(file.sha256)] = size - here
            heard(here, size)

        return Download(self._store, wanted, options, hears)

    def _note(self, action: Verify, file: HubFile) -> dict[str, Any]:
        """What stands beside the blob: from it a pin can be made again."""
        assert action.pin is not None
        found = {**asdict(action.pin), **asdict(file), "fetched": int(time.time())}
        del found["files"]
        return found | ({"kept": action.model} if "/" in action.model else {})


class _Getting:
    """A download that is made in its own thread; it can be stopped before."""

    def __init__(self, make: Callable[[], Download]) -> None:
        self._make, self._stopped = make, False
        self._download: Download | None = None

    def run(self) -> Path:
        """Raises ActionFailed, Stopped."""
        self._download = self._make()
        if self._stopped:
            raise Stopped
        return self._download.run()

    def stop(self) -> None:
        self._stopped = True
        if self._download is not None:
            self._download.stop()


def _told(work: Callable[[], _T], condition: str = "Downloaded") -> _T:
    """What `work` gives. Whatever a disk or a hub brings up is a failure of the model, not the end of the daemon."""
    try:
        return work()
    except (ActionFailed, Stopped):
        raise
    except OSError as error:
        raise _failed(condition, "Unreadable", f"cannot use the store: {error.strerror or error}") from error
    except Exception as error:
        log.exception("unexpected, while a hub's file was asked for")
        raise _failed(condition, "InternalError", f"cannot go on: {type(error).__name__}; it is in the log") from error


def _of_hub(condition: str, error: HubError) -> ActionFailed:
    failure = error.failure
    return _failed(condition, failure.reason, failure.message, not failure.passing and failure.reason != "Offline")


def _failed(condition: str, reason: str, message: str, terminal: bool = False) -> ActionFailed:
    return ActionFailed(Failure(condition, reason, message, terminal))
