"""Manifest text -> desired state for the loop. Reads, accepts or refuses, and keeps the last good one.

Reading, parsing and writing run in threads; what came of them is told on the event loop only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.observed import ManifestFacts
from offgridd.failpoints import failpoint
from offgridd.manifest import accept_files

Files = Sequence[tuple[str, bytes]]


class StatePort(Protocol):
    """`generation_of` never fails; `keep_last_good` keeps the texts and the newest generation, or raises OSError."""

    def generation_of(self, digest: str) -> int: ...
    def keep_last_good(self, texts: list[tuple[str, bytes]]) -> None: ...
    def last_good(self) -> list[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a reading: the generation that is desired now, and what is wrong with the text."""

    generation: int
    problems: tuple[Problem, ...]
    changed: bool  # the desired state is another one


@dataclass(frozen=True, slots=True)
class _Reading:
    files: Files | None
    desired: Desired | None = None
    problems: tuple[Problem, ...] = ()


@dataclass
class Intake:
    """`read` gives the manifest's files, the first one the manifest; it raises OSError.

    `prepare` does what must succeed before a manifest is accepted, such as binding its addresses, or raises
    ManifestError and leaves everything as it was.
    """

    read: Callable[[], Files]
    state: StatePort
    emit: Callable[[ev.Event | Desired], None]
    prepare: Callable[[Desired], Awaitable[None]] | None = None
    desired: Desired | None = None

    def __post_init__(self) -> None:
        self._facts = ManifestFacts()
        self._last: Files | None = None
        self._unkept: Files | None = None  # accepted, but the state directory did not take it
        self._lock = anyio.Lock()

    async def take(self) -> Seen:
        """Reads now. A text that is the same as at the last reading changes nothing."""
        async with self._lock:
            reading = await anyio.to_thread.run_sync(self._read_and_parse, abandon_on_cancel=True)
            if reading is not None:
                return await self._fold(reading)
            if self._unkept is not None:
                await self._keep(self._unkept)
            return Seen(self._generation(), self._facts.problems, changed=False)

    async def start(self) -> Seen:
        """The first reading: where it is refused, the copy of the last good manifest is desired."""
        seen = await self.take()
        if self.desired is None and (desired := await anyio.to_thread.run_sync(self._last_good)) is not None:
            try:
                await self._accept(desired)
            except ManifestError:
                return seen
            self._tell(from_last_good=True)
            return replace(seen, generation=self._generation())
        return seen

    async def differs(self) -> bool:
        """Whether the text is not the one that was read last."""
        return await anyio.to_thread.run_sync(self._read_or_none, abandon_on_cancel=True) != self._last

    def report_watch(self, error: str) -> None:
        self._tell(watch_error=error)

    def _read_or_none(self) -> Files | None:
        try:
            return self.read()
        except OSError:
            return None

    def _read_and_parse(self) -> _Reading | None:
        """None when it is the text that was read last."""
        try:
            files = self.read()
        except OSError as error:
            text = f"cannot read the manifest: {error.strerror}; what was accepted before stays"
            return _Reading(None, problems=(Problem("ManifestMissing", text, str(error.filename or "manifest")),))
        if files == self._last:
            return None
        try:
            return _Reading(files, parse(files))
        except ManifestError as error:
            return _Reading(files, problems=error.problems)

    async def _fold(self, reading: _Reading) -> Seen:
        if reading.desired is None or reading.files is None:
            self._last = reading.files
            return self._refuse(reading.problems)
        try:
            changed = await self._accept(reading.desired)
        except ManifestError as error:
            self._last = None  # the same text may be accepted at the next look
            return self._refuse(error.problems)
        self._last = reading.files
        self._tell(problems=(), reason="", from_last_good=False)
        if changed:
            await self._keep(reading.files)
        return Seen(self._generation(), (), changed)

    def _refuse(self, problems: tuple[Problem, ...]) -> Seen:
        self._tell(problems=problems, reason=problems[0].reason)
        return Seen(self._generation(), problems, changed=False)

    async def _accept(self, desired: Desired) -> bool:
        if self.desired is not None and self.desired.digest == desired.digest:
            return False
        if self.prepare is not None:
            await self.prepare(desired)
        failpoint("intake.before-accept")
        self.desired = replace(desired, generation=self.state.generation_of(desired.digest))
        self.emit(self.desired)
        return True

    async def _keep(self, files: Files) -> None:
        try:
            await anyio.to_thread.run_sync(self.state.keep_last_good, list(files))
        except OSError as error:
            self._unkept = files
            self._tell(state_error=f"cannot keep the manifest: {error.strerror}; make room, then offgrid reload")
        else:
            self._unkept = None
            self._tell(state_error="")

    def _last_good(self) -> Desired | None:
        texts = self.state.last_good()
        try:
            return parse(texts) if texts else None
        except ManifestError:
            return None  # written by another version

    def _generation(self) -> int:
        return self.desired.generation if self.desired else 0

    def _tell(self, **changes: object) -> None:
        facts = replace(self._facts, **changes)  # type: ignore[arg-type]
        if facts != self._facts:
            self._facts = facts
            self.emit(ev.ManifestSeen(facts))


def parse(files: Files) -> Desired:
    """Raises ManifestError."""
    return accept_files(files).desired
