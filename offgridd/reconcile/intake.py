"""Manifest text -> desired state for the loop. Reads, accepts or refuses, and keeps the last good one.

Where it names a Git repository, what `Follow` has of that is read with it as if it stood in the same folder.

Reading, parsing and writing run in threads; what came of them is told on the event loop only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.gitsource import Files, GitFacts, commit_of
from offgridd.core.observed import ManifestFacts
from offgridd.failpoints import failpoint
from offgridd.manifest import accept_files
from offgridd.reconcile.follow import Follow
from offgridd.reconcile.holding import HeldPort, Holding


class StatePort(HeldPort, Protocol):
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
    notes: tuple[str, ...] = ()  # what else whoever asked should know; nothing was refused for it


@dataclass(frozen=True, slots=True)
class _Reading:
    files: Files | None
    desired: Desired | None = None
    problems: tuple[Problem, ...] = ()
    pending: bool = False  # its repository is not known yet


@dataclass
class Intake:
    """`read` gives the manifest's files, the first one the manifest; it raises OSError.

    `prepare` does what must succeed before a manifest is accepted, such as binding its addresses, or raises
    ManifestError and leaves everything as it was.
    """

    read: Callable[[], Files]
    state: StatePort
    emit: Callable[[ev.Event | Desired], None]
    follow: Follow
    prepare: Callable[[Desired], Awaitable[None]] | None = None
    desired: Desired | None = None

    def __post_init__(self) -> None:
        self._facts = ManifestFacts()
        self._own: _Reading | None = None  # the host's own files as they were read last
        self._last: Files | None = None  # those, with what was fetched
        self._pending: Desired | None = None  # what they say as long as nothing is fetched
        self.accepted: Files = ()  # the newest that were
        self._unkept: Files | None = None  # accepted, but the state directory did not take it
        self._last_good: Files = ()  # what was accepted last in an earlier life
        self._lock = anyio.Lock()
        self._holding = Holding(self.state)
        self.follow.tell = self._report_git

    async def take(self) -> Seen:
        """Reads now. A text that is the same as at the last reading changes nothing."""
        async with self._lock:
            reading = await self._read()
            if reading is not None:
                return await self._fold(reading)
            if self._unkept is not None:
                await self._keep(self._unkept)
            return Seen(self._generation(), self._facts.problems, changed=False)

    async def start(self) -> Seen:
        """The first reading: where it is refused, or its repository is not known, the last good manifest is desired."""
        kept = await anyio.to_thread.run_sync(self.state.last_good)
        self._last_good = texts = kept or ()
        good = await self._good(texts) if commit_of(texts) else None
        if good is not None and good.git is not None:
            self.follow.restore(good.git, texts)
        seen = await self.take()
        if self.desired is not None:
            return seen
        good = good or await self._good(texts)
        desired = good or self._pending
        if desired is None:
            return seen
        try:
            await self._accept(desired, texts)
        except ManifestError as error:
            return seen if seen.problems else replace(seen, problems=error.problems)
        self.accepted = texts if good is not None or self._own is None else self._own.files or ()
        self._tell(from_last_good=good is not None)
        return replace(seen, generation=self._generation())

    async def took(self, name: str, spec: ModelSpec, tell: Callable[[], None]) -> bool:
        """What was declared of a model was judged and is to serve; False where something else is by now.

        `tell` is called where it is so, before a newer manifest can be accepted.
        """
        async with self._lock:
            if not self._holding.take(name, spec):
                return False
            tell()
            await self._keep(self.accepted)
            return True

    async def keep_again(self) -> None:
        """Tries again to keep what the state directory did not take."""
        async with self._lock:
            if self._unkept is not None:
                await self._keep(self._unkept)

    async def differs(self) -> bool:
        """Whether the host's own text is not the one that was read last."""
        known = self._own.files if self._own else None
        return await anyio.to_thread.run_sync(self._read_or_none, abandon_on_cancel=True) != known

    def report_watch(self, error: str) -> None:
        self._tell(watch_error=error)

    def _report_git(self, facts: GitFacts | None) -> None:
        self._tell(git=facts)

    def _read_or_none(self) -> Files | None:
        try:
            return self.read()
        except OSError:
            return None

    async def _read(self) -> _Reading | None:
        """None when it is the text that was read last, and what was fetched is, too."""
        self._own = await anyio.to_thread.run_sync(self._read_own, abandon_on_cancel=True)
        reading = self._own
        if reading.files is None or reading.desired is None:
            return None if reading.files is not None and reading.files == self._last else reading
        fetched = await self.follow.files(reading.desired.git, offline=reading.desired.server.offline)
        if reading.desired.git is not None and fetched is None:
            return replace(reading, pending=True)
        files = (*reading.files, *(fetched or ()))
        if files == self._last:
            return None
        return await anyio.to_thread.run_sync(_parsed, files) if fetched else reading

    def _read_own(self) -> _Reading:
        try:
            files = self.read()
        except OSError as error:
            text = f"cannot read the manifest: {error.strerror}; what was accepted before stays"
            return _Reading(None, problems=(Problem("ManifestMissing", text, str(error.filename or "manifest")),))
        same = self._own is not None and self._own.files == files
        return self._own if same and self._own is not None else _parsed(files)

    async def _fold(self, reading: _Reading) -> Seen:
        self._pending = None
        if reading.desired is None or reading.files is None:
            self._last = reading.files
            return self._refuse(reading.problems)
        if reading.pending and reading.desired.git is not None:
            self._last, self._pending = None, reading.desired
            self._tell(problems=(), reason="", pending=True)
            note = f"it waits until {reading.desired.git.url} is fetched"
            return Seen(self._generation(), (), changed=False, notes=(note,))
        try:
            changed = await self._accept(reading.desired, reading.files)
        except ManifestError as error:
            self._last = self._own = None  # the same text may be accepted at the next look
            return self._refuse(error.problems)
        self._last = self.accepted = reading.files
        commit = commit_of(reading.files)
        moved = commit != self.follow.commit
        self.follow.took(commit)
        self._tell(problems=(), reason="", from_last_good=False, pending=False)
        if changed or moved:
            await self._keep(reading.files)
        return Seen(self._generation(), (), changed)

    def _refuse(self, problems: tuple[Problem, ...]) -> Seen:
        self._tell(problems=problems, reason=problems[0].reason, pending=False)
        return Seen(self._generation(), problems, changed=False)

    async def _accept(self, desired: Desired, files: Files) -> bool:
        if self.desired is not None and self.desired.digest == desired.digest:
            return False
        if self.prepare is not None:
            await self.prepare(desired)
        failpoint("intake.before-accept")
        first, desired = self.desired is None, replace(desired, generation=self.state.generation_of(desired.digest))
        if first:
            await anyio.to_thread.run_sync(self._holding.restore, desired, self._last_good)
        held = self._holding.accepted(desired, files)
        self.desired = desired
        self.emit(held if first else desired)  # from then on the loop knows by itself what it has to hold on to
        return True

    async def _keep(self, files: Files) -> None:
        try:
            await anyio.to_thread.run_sync(self._keep_now, list(files))
        except OSError as error:
            self._unkept = files
            self._tell(state_error=f"cannot keep the manifest: {error.strerror}; make room: it is tried again")
        else:
            self._unkept = None
            self._tell(state_error="")

    def _keep_now(self, files: list[tuple[str, bytes]]) -> None:
        self._holding.keep()
        self.state.keep_last_good(files)

    async def _good(self, texts: Files) -> Desired | None:
        """None where there are none, or another version wrote them."""
        return (await anyio.to_thread.run_sync(_parsed, texts)).desired if texts else None

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


def _parsed(files: Files) -> _Reading:
    try:
        return _Reading(files, parse(files))
    except ManifestError as error:
        return _Reading(files, problems=error.problems)
