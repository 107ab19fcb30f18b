"""Models of a hub: what a source means is asked once and pinned; its files are fetched into the store and verified."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from offgridd.core.actions import Resolve, Verify
from offgridd.core.desired import Desired, HubSource, Secret
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, HubFailure, HubFile
from offgridd.core.observed import Pin, VerifiedFile
from offgridd.core.pinning import pin
from offgridd.core.sizes import show_size
from offgridd.effects.files import Files
from offgridd.effects.secrets import SecretUnavailable, read_secret
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Stopped

if TYPE_CHECKING:  # they bring the hub's library with them, 20 MB: only where a hub is declared
    from offgridd.effects.download import Download
    from offgridd.effects.hub import HubClient

ASKED_AT_ONCE, FETCHED_AT_ONCE = 4, 2
Report = Callable[[str, int, int], None]  # model, bytes here, bytes in all; all here: 0, 0


class HubFiles:
    """`pins` outlive the daemon; `desired` gives the present manifest; `report` hears of progress, in any thread."""

    def __init__(
        self, store: Store, files: Files, pins: MutableMapping[str, Pin], desired: Callable[[], Desired], report: Report
    ) -> None:
        self._store, self._files, self._pins, self._desired, self._report = store, files, pins, desired, report
        self._clients: dict[tuple[str, str | None], HubClient] = {}
        self._asking = anyio.CapacityLimiter(ASKED_AT_ONCE)
        self._fetching = anyio.CapacityLimiter(FETCHED_AT_ONCE)

    async def resolve(self, action: Resolve) -> Pin:
        """Raises ActionFailed."""
        return await anyio.to_thread.run_sync(self._resolve, action, limiter=self._asking, abandon_on_cancel=True)

    async def fetch(self, action: Verify, report: Callable[[int, int], None] | None = None) -> VerifiedFile:
        """The verified blob; it is fetched first where it is not there. Raises ActionFailed.

        `report` hears of progress in place of who is told of all models.
        """
        heard = report or partial(self._report, action.model)
        assert action.pin is not None
        (file,) = action.pin.files
        assert file.sha256 is not None
        if not self._store.has(file.sha256, file.size):
            download = await anyio.to_thread.run_sync(self._download, action, file, heard)
            try:
                path = await interruptible(download.run, download.stop, self._fetching)
            except Stopped:
                raise RuntimeError("a download was stopped and not cancelled") from None
            finally:
                heard(0, 0)
            self._files.learn(path, file.sha256)
        return await self._verify(action, file)

    async def _verify(self, action: Verify, file: HubFile) -> VerifiedFile:
        assert file.sha256 is not None
        try:
            found = await self._files.verify_at(self._store.blob(file.sha256), action)
        except ActionFailed as failed:
            if failed.failure.reason == "FileNotFound":  # it was taken away this very moment
                raise ActionFailed(Failure("Downloaded", "BlobGone", failed.failure.message)) from None
            raise
        if found.sha256 != file.sha256:
            self._store.put_away(file.sha256)
            text = f"cannot use {file.path}: what the store has of it was changed; it is fetched again"
            raise ActionFailed(Failure("Verified", "DigestMismatch", text))
        return found

    def _resolve(self, action: Resolve) -> Pin:
        known = self._pins.get(action.model)
        if known is not None and known.key == action.key:
            return known
        self._pins[action.model] = found = self.ask(action.source, action.key, action.sha256)
        return found

    def ask(self, source: HubSource, key: str, sha256: str | None = None) -> Pin:
        """What `source` means now. Blocking. Raises ActionFailed."""
        try:
            tree = self._client(source).tree(source.repo, source.revision or "main")
        except HubError as error:
            known = self._from_provenance(key)
            if known is not None:
                return known
            failure = error.failure
            raise _failed("Resolved", failure.reason, failure.message, terminal=_terminal(error)) from error
        made = pin(source, tree, key, sha256)
        if isinstance(made, Failure):
            raise ActionFailed(made)
        return made

    def _from_provenance(self, key: str) -> Pin | None:
        """The pin that a blob was fetched for, where the state was lost and the hub can not be asked."""
        for sha256, note in self._store.notes():
            if note.get("key") == key and self._store.has(sha256, int(note["size"])):
                file = HubFile(str(note["path"]), int(note["size"]), sha256)
                return Pin(key, str(note["repo"]), str(note["commit"]), (file,), note.get("quant"), str(note["why"]))
        return None

    def _download(self, action: Verify, file: HubFile, heard: Callable[[int, int], None]) -> Download:
        """Raises ActionFailed."""
        from offgridd.effects.download import Download, Wanted
        from offgridd.effects.transfer.server import Options, Origin

        pinned, source, store = action.pin, action.source, self._desired().store
        assert pinned is not None
        assert isinstance(source, HubSource)
        assert file.sha256 is not None
        if store.max_total is not None and (total := self._store.total() + file.size) > store.max_total:
            text = f"cannot fetch {file.path}: the store would hold {show_size(total)}, store.max_total is "
            raise _failed("Downloaded", "StoreFull", text + show_size(store.max_total))
        client = self._client(source, "Downloaded")
        origin = Origin(lambda: client.resolve(pinned.repo, pinned.commit, file.path), client.token,
                        f"{source.endpoint}/{pinned.repo}")  # fmt: skip
        note = {**asdict(pinned), **asdict(file), "endpoint": source.endpoint, "fetched": int(time.time())}
        note.pop("files")
        wanted = Wanted(file.path, file.sha256, file.size, origin, note, store.min_free)
        options = Options(store.connections, float(store.rate) if store.rate else None)
        return Download(self._store, wanted, options, heard)

    def searched(self) -> HubClient | None:
        """The hub that searches ask; None where none is to be asked. Raises HubError."""
        desired = self._desired()
        if desired.server.offline:
            return None
        try:
            return self._of(desired.endpoint, desired.token)
        except SecretUnavailable as error:
            raise HubError(HubFailure("TokenUnavailable", str(error))) from None

    def _client(self, source: HubSource, condition: str = "Resolved") -> HubClient:
        """Raises ActionFailed."""
        try:
            return self._of(source.endpoint, source.token)
        except SecretUnavailable as error:
            raise _failed(condition, "TokenUnavailable", str(error)) from None

    def _of(self, endpoint: str, secret: Secret | None) -> HubClient:
        """One for each endpoint and token: it remembers when a hub was down. Raises SecretUnavailable."""
        from offgridd.effects.hub import HubClient

        key = endpoint, read_secret(secret) if secret else None
        if key not in self._clients:
            self._clients[key] = HubClient(*key, offline=lambda: self._desired().server.offline)
        return self._clients[key]


def _terminal(error: HubError) -> bool:
    return not error.failure.passing and error.failure.reason != "Offline"


def _failed(condition: str, reason: str, message: str, *, terminal: bool = False) -> ActionFailed:
    return ActionFailed(Failure(condition, reason, message, terminal))
