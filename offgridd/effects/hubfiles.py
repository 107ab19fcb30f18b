"""Models of a hub: what a source means is asked once and pinned; its files are fetched into the store and verified."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from offgridd.core.actions import Resolve, Verify
from offgridd.core.challenge import answered_by
from offgridd.core.desired import Desired, HubSource, RemoteSource, UrlSource
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, HubFile, Pin
from offgridd.core.observed import VerifiedFile
from offgridd.core.pinning import Question
from offgridd.core.sizes import show_size
from offgridd.effects.files import Files
from offgridd.effects.getting import Ahead, Getting, Heard, of_hub, refused, told
from offgridd.effects.holds import Holds
from offgridd.effects.origins import Origins, pin_web
from offgridd.effects.store import Store
from offgridd.effects.threads import interruptible
from offgridd.effects.transfer.pace import Limits, Stopped
from offgridd.effects.turns import Turns

if TYPE_CHECKING:
    from offgridd.effects.download import Download

ASKED_AT_ONCE, FETCHED_AT_ONCE = 4, 2
MISMATCHES = 2  # of a file's digest, after which it is not fetched again by itself


class PinsPort(Protocol):
    def get(self, model: str) -> Pin | None: ...
    def keep(self, model: str, pin: Pin) -> bool: ...


class HubFiles:
    """`pins` outlive the daemon; `desired` gives the present manifest.

    `report` hears of each model's progress, in any thread; `waits` that a model waits for the network, in the loop's.
    """

    def __init__(
        self, store: Store, holds: Holds, files: Files, pins: PinsPort, origins: Origins,
        desired: Callable[[], Desired], report: Callable[[str, int, int], None], waits: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._store, self._holds, self._files, self._pins = store, holds, files, pins
        self._origins, self._desired = origins, desired
        self._report, self._waits = report, waits
        self._asking = anyio.CapacityLimiter(ASKED_AT_ONCE)
        self._fetching = Turns(FETCHED_AT_ONCE)
        self._mismatches: Counter[str] = Counter()

    async def resolve(self, action: Resolve) -> Pin:
        """Raises ActionFailed."""
        for name in answered_by(action.model):
            known = await anyio.to_thread.run_sync(self._pins.get, name)
            if known is not None and known.key == action.key:
                return known
        self._waits(action.model)
        ask = partial(self.ask, Question(action.source, action.key, action.sha256, action.use))
        found = await anyio.to_thread.run_sync(ask, limiter=self._asking, abandon_on_cancel=True)
        # Here, not in the thread: one that was given up may end after the question has changed.
        await anyio.to_thread.run_sync(self._pins.keep, action.model, found)
        return found

    async def fetch(self, action: Verify) -> VerifiedFile:
        """As `get`, of a model that is declared: its pin is kept, also where a lock named it. Raises ActionFailed."""
        assert action.pin is not None
        await anyio.to_thread.run_sync(self._keep, action.model, action.pin)
        return await self.get(action, partial(self._report, action.model))

    async def get(self, action: Verify, tell: Heard) -> VerifiedFile:
        """The verified blobs; those that are not there are fetched first. Raises ActionFailed."""
        assert action.pin is not None
        files = action.pin.files
        if any(not self._store.has(f.digest, f.size) for f in files):
            self._waits(action.model)  # also where another model's fetch of the same bytes is waited for
        async with self._holds.alone(f.digest for f in files):
            missing = [f for f in files if not self._store.has(f.digest, f.size)]
            here = action.pin.size - sum(f.size for f in missing)
            try:
                for file in missing:
                    ahead = Ahead(here, action.pin.size, tell)
                    if not self._store.has(file.digest, file.size):
                        await self._get(action, file, ahead)
                    here += file.size
            finally:
                for file in missing:
                    self._holds.coming.pop(file.digest, None)
                if missing:
                    tell(0, 0)
            return await anyio.to_thread.run_sync(told, partial(self._verify, action))

    def _keep(self, model: str, pin: Pin) -> None:
        if self._pins.get(model) != pin:
            self._pins.keep(model, pin)

    async def _get(self, action: Verify, file: HubFile, heard: Heard) -> None:
        getting = Getting(partial(self._download, action, file, heard))

        def run() -> None:
            path = told(getting.run)
            self._files.learn(path, file.digest)

        try:
            await interruptible(run, getting.stop, self._fetching.turn("/" in action.model))  # declared before pulled
        except Stopped:
            raise RuntimeError("a download was stopped and not cancelled") from None
        except ActionFailed as failed:
            raise self._counted(file.digest, failed) from None
        finally:
            self._holds.coming.pop(file.digest, None)

    def _counted(self, sha256: str, failed: ActionFailed) -> ActionFailed:
        """A hub whose digest is wrong would have us fetch the same bytes for ever."""
        if failed.failure.reason != "DigestMismatch":
            return failed
        self._mismatches[sha256] += 1
        if self._mismatches[sha256] < MISMATCHES:
            return failed
        del self._mismatches[sha256]
        text = f"{failed.failure.message}; fetched {MISMATCHES} times: edit the model or run offgrid retry"
        return ActionFailed(replace(failed.failure, message=text, terminal=True))

    def _verify(self, action: Verify) -> VerifiedFile:
        """What the store has, looked at as any file is; what rots is put away and fetched again."""
        assert action.pin is not None
        files = action.pin.files
        for file in files:
            self._store.tidy(file.digest)  # a kill may have come right behind the rename
            if action.pin.commit or isinstance(action.source, UrlSource):  # else it was adopted, and noted then
                self._store.note(file.digest, self._note(action, file))
        paths = [self._store.blob(file.digest) for file in files]
        try:
            found = self._files.verify_at(paths, replace(action, sha256=None))  # the pin was held against it
            digests = [part.sha256 for part in found.parts]
        except ActionFailed as failed:
            if not all(path.exists() for path in paths):  # it was taken away this very moment
                raise refused("Downloaded", "BlobGone", failed.failure.message) from None
            digests = [self._files.digest_of(path) for path in paths]
            if digests == [file.digest for file in files]:
                raise
        for file, digest in zip(files, digests, strict=True):
            if digest != file.sha256:
                self._store.put_away(file.digest)
                text = f"cannot use {file.path}: what the store has of it was changed; it is fetched again"
                raise refused("Verified", "DigestMismatch", text)
        return found

    def ask(self, asked: Question) -> Pin:
        """What a source means now, within the memory that is declared. Blocking. Raises ActionFailed."""
        return told(partial(self._ask, replace(asked, memory=self._desired().server.memory)), "Resolved")

    def _ask(self, asked: Question) -> Pin:
        if isinstance(asked.source, HubSource) and asked.source.revision == "":
            raise _of_no_hub("Resolved", asked.source.file or asked.source.repo)
        try:
            made = self._known(asked) or self._origins.ask(asked)
        except HubError as error:
            known = self._store.pinned(asked.key)
            if known is not None:
                return known
            raise of_hub("Resolved", error) from error
        if isinstance(made, Failure):
            raise ActionFailed(made)
        return made

    def _known(self, asked: Question) -> Pin | Failure | None:
        """What needs no question: the bytes that an address must lead to are here."""
        if not isinstance(asked.source, UrlSource) or asked.sha256 is None:
            return None
        size = self._store.size_of(asked.sha256)
        return pin_web(asked.source, size, asked.key, asked.sha256) if size is not None else None

    def _download(self, action: Verify, file: HubFile, heard: Heard) -> Download:
        """Made when its turn has come, so that all of it is what is declared now. Raises ActionFailed."""
        from offgridd.effects.download import Download, Wanted

        pinned, source, spec = action.pin, action.source, self._desired().store
        assert pinned is not None
        assert isinstance(source, RemoteSource)
        if isinstance(source, HubSource) and not pinned.commit:
            raise _of_no_hub("Downloaded", file.path)
        sha256 = file.digest
        self._announce(pinned)
        others = self._holds.others(sha256)
        if spec.max_total is not None and (total := self._store.total() + others + file.size) > spec.max_total:
            text = f"cannot fetch {file.path}: the store would hold {show_size(total)}, store.max_total is "
            raise refused("Downloaded", "StoreFull", text + show_size(spec.max_total))
        try:
            origin = self._origins.origin(source, pinned, file)
        except HubError as error:
            raise of_hub("Downloaded", error) from error
        wanted = Wanted(file.path, sha256, file.size, origin, self._note(action, file), spec.min_free + others)

        def hears(here: int, size: int) -> None:
            self._holds.coming[sha256] = size - here
            heard(here, size)

        return Download(self._store, wanted, self._limits, hears)

    def _limits(self) -> Limits:
        """What is declared now: asked again and again while a file comes."""
        spec = self._desired().store
        return Limits(spec.connections, spec.rate, spec.min_rate.rate, spec.min_rate.over)

    def _announce(self, pin: Pin) -> None:
        """What is still to be written of all its files: the first must not begin where the last has no room."""
        for file in pin.files:
            if not self._store.has(file.digest, file.size):
                self._holds.coming.setdefault(file.digest, file.size)

    def _note(self, action: Verify, file: HubFile) -> dict[str, Any]:
        """What stands beside the blob: from it a pin can be made again."""
        assert action.pin is not None
        return {**asdict(action.pin), **asdict(file), "fetched": int(time.time())}


def _of_no_hub(condition: str, name: str) -> ActionFailed:
    text = f"cannot fetch {name} again: it was adopted and no hub is known to have it; adopt it again, or remove it"
    return refused(condition, "NotAtAHub", text, terminal=True)
