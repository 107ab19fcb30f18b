"""Manifest text -> desired state for the loop. Reads, accepts or refuses, and keeps the last good one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.to_thread

from offgridd.core import events as ev
from offgridd.core.desired import Desired
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.observed import ManifestFacts
from offgridd.manifest import SourceText, accept

Files = Sequence[tuple[str, bytes]]


class StatePort(Protocol):
    def generation_of(self, digest: str) -> int: ...
    def keep_last_good(self, texts: list[tuple[str, bytes]]) -> None: ...
    def last_good(self) -> list[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a reading: the generation that is desired now, and what was wrong with the text."""

    generation: int
    problems: tuple[Problem, ...]
    changed: bool


@dataclass
class Intake:
    """`read` gives the manifest's files, the first one the manifest; it raises OSError."""

    read: Callable[[], Files]
    state: StatePort
    emit: Callable[[ev.Event | Desired], None]
    desired: Desired | None = None

    def __post_init__(self) -> None:
        self._facts = ManifestFacts()
        self._last: Files | str | None = None
        self._lock = anyio.Lock()

    async def take(self) -> Seen:
        """Reads now. A text that is the same as at the last reading changes nothing."""
        async with self._lock:
            return await anyio.to_thread.run_sync(self._take)

    async def start(self) -> Seen:
        """The first reading: where it is refused, the copy of the last good manifest is desired."""
        seen = await self.take()
        if self.desired is None and (texts := self.state.last_good()) is not None:
            try:
                desired = parse(texts)
            except ManifestError:
                return seen  # written by another version
            self._accepted(desired)
            self._tell(replace(self._facts, from_last_good=True))
            return replace(seen, generation=desired.generation)
        return seen

    def differs(self) -> bool:
        """Whether the text is not the one that was read last (also when it can not be read)."""
        try:
            return self.read() != self._last
        except OSError:
            return True

    def report_watch(self, error: str) -> None:
        self._tell(replace(self._facts, watch_error=error))

    def _take(self) -> Seen:
        try:
            files = self.read()
        except OSError as error:
            text = f"cannot read the manifest: {error.strerror}; what was accepted before stays"
            problem = Problem("ManifestMissing", text, str(error.filename or "manifest"))
            if self._facts.problems == (problem,):
                return Seen(self._generation(), (problem,), changed=False)
            return self._refused((problem,), text)
        if files == self._last:
            return Seen(self._generation(), self._facts.problems, changed=False)
        try:
            desired = parse(files)
        except ManifestError as error:
            return self._refused(error.problems, files)
        self._last = files
        self._tell(replace(self._facts, problems=(), reason="", from_last_good=False))
        changed = self._accepted(desired)
        if changed:
            try:
                self.state.keep_last_good(list(files))
            except OSError as error:
                self._tell(replace(self._facts, state_error=f"cannot keep the manifest: {error.strerror}"))
        return Seen(self._generation(), (), changed)

    def _accepted(self, desired: Desired) -> bool:
        if self.desired is not None and self.desired.digest == desired.digest:
            return False
        self.desired = replace(desired, generation=self.state.generation_of(desired.digest))
        self.emit(self.desired)
        return True

    def _refused(self, problems: tuple[Problem, ...], last: Files | str) -> Seen:
        self._last = last
        self._tell(replace(self._facts, problems=problems, reason=problems[0].reason))
        return Seen(self._generation(), problems, changed=False)

    def _generation(self) -> int:
        return self.desired.generation if self.desired else 0

    def _tell(self, facts: ManifestFacts) -> None:
        self._facts = facts
        self.emit(ev.ManifestSeen(facts))


def parse(files: Files) -> Desired:
    """Raises ManifestError."""
    main, *fragments = [SourceText(name, text) for name, text in files]
    return accept(main, fragments).desired
