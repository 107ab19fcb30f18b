"""The repository that the manifest names: asked now and then, and which commit of it is in effect.

`Intake` says which one it is, reads what was fetched, and says what it took. What goes wrong changes nothing of that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import anyio

from offgridd.core.desired import GitSpec
from offgridd.core.gitsource import REMOTE, UNKNOWN, UNTRUSTED, Fetched, Files, GitFacts, commit_of, of_repository
from offgridd.core.stamps import stamp

SPREAD: Final = 0.1  # of the interval, so that a thousand hosts do not ask at once


class RepositoryPort(Protocol):
    """Neither raises: what went wrong is a reason in the answer."""

    async def fetch(self, spec: GitSpec, accepted: str, *, rewind: bool = False) -> Fetched: ...
    async def read(self, spec: GitSpec, commit: str) -> Fetched: ...


@dataclass
class Follow:
    """`tell` hears of each change of what is known."""

    port: RepositoryPort
    tell: Callable[[GitFacts | None], None] = lambda _: None

    def __post_init__(self) -> None:
        self.spec: GitSpec | None = None  # of the newest manifest that was read
        self.facts: GitFacts | None = None
        self._offline = False  # no network may be used
        self._held = Fetched()  # of `spec`, and not refused
        self._effective = Fetched()  # what was held when it came into effect
        self._tried = ""  # the commit that was held at the last reload by `run`
        self._seen = 0.0  # seconds since the epoch: when the remote gave an answer last
        self._changed = anyio.Event()  # `spec` is another one
        self._asking = anyio.Lock()
        self._scope: anyio.CancelScope | None = None  # of the asking that is under way
        self._changed.set()  # it is asked at the start

    def restore(self, spec: GitSpec, files: Files) -> None:
        """What was in effect when the daemon ended, before anything else is done."""
        self.spec, self._held = spec, Fetched(commit_of(files), of_repository(files), spec.signers is not None)
        self._know(GitFacts(spec.url, spec.ref or ""))
        self.took(self._held.commit)

    async def files(self, spec: GitSpec | None, *, offline: bool = False) -> Files | None:
        """What the repository of a manifest that was read says; None where that is not known yet, which wakes `run`."""
        if self._offline and not offline:
            self._changed.set()
        before, self.spec, self._offline = self.spec, spec, offline
        if spec is None:
            self._held = Fetched()
            self._know(None)
            return None
        if before is None or not before.same_content(spec):
            if self._scope is not None:
                self._scope.cancel()  # what comes of it is not wanted any more, and it may take a minute
            await self._turn(before, spec)
            self._changed.set()
        elif before != spec:
            self._changed.set()  # it is to be asked more often, or with another token
        return self._held.files or None

    async def _turn(self, before: GitSpec | None, spec: GitSpec) -> None:
        commit = self.commit if before is not None and before.same_history(spec) else ""
        found = await self.port.read(spec, commit) if commit else Fetched()
        self._held = self._effective = found
        if before is None or not before.same_history(spec):
            self._seen = 0.0
        blank = GitFacts(spec.url, spec.ref or "", reason="Fetching", message=f"{spec.url} is asked")
        if self.facts is None or not commit:
            self._know(blank)
        else:
            self._know(replace(self.facts, signed=found.signed, reason=found.reason, message=found.message))

    def took(self, commit: str) -> None:
        """What `files` gave of `commit` is in effect, also where another one was fetched meanwhile."""
        if self.facts is None or not commit or self.spec is None:
            return
        if self._held.commit == commit:
            self._effective = self._held
        if self.facts.commit != commit or self.facts.reason == "Fetching":
            self._tried = ""  # it may come again after this one
            since = self.facts.since if self.facts.commit == commit else time.time()
            signed = self.spec.signers is not None  # with which no other one is given
            self._know(replace(self.facts, commit=commit, since=since, signed=signed, reason="", message=""))

    async def fetch(self, *, rewind: bool = False) -> GitFacts | None:
        """Asks now. What came of it is in the facts that are given; None where no repository is named."""
        async with self._asking:
            spec = self.spec
            if spec is None:
                return None
            found = await self._ask(spec, rewind=rewind)
            if found is None or self.spec is None or not spec.same_content(self.spec) or self.facts is None:
                return self.facts  # it changed meanwhile, and is asked again
            if found.reason not in UNKNOWN:
                self._seen = time.time()
            if found.reason:
                if found.reason in UNTRUSTED:  # nor is what waits to come into effect, though it was good before
                    self._held = self._effective
                self._know(replace(self.facts, reason=found.reason, message=found.message + self._age(found.reason)))
            else:
                self._held = found
                signed = found.signed if found.commit == self.commit else self.facts.signed
                self._know(replace(self.facts, signed=signed, reason="", message=""))
            return self.facts

    async def _ask(self, spec: GitSpec, *, rewind: bool) -> Fetched | None:
        """None where it was given up."""
        if self._offline and not spec.url.startswith("file:"):
            return Fetched(reason="Offline", message="the manifest says offline: nothing is fetched")
        with anyio.CancelScope() as self._scope:
            return await self.port.fetch(spec, self.commit, rewind=rewind)
        return None

    def news(self) -> bool:
        """Whether what is held is not what is in effect."""
        return bool(self._held.files) and self._held.commit != self.commit

    async def run(self, reload: Callable[[], Awaitable[object]]) -> None:
        """Asks whenever it is due, for ever; `reload` takes what is new."""
        while True:
            await self._due()
            if self.spec is None:
                continue
            await self.fetch()
            if self.news() and self._held.commit != self._tried:
                self._tried = self._held.commit
                await reload()

    async def _due(self) -> None:
        wait = self.spec.interval * random.uniform(1 - SPREAD, 1 + SPREAD) if self.spec else float("inf")
        with anyio.move_on_after(wait):
            await self._changed.wait()
        if self._changed.is_set():
            self._changed = anyio.Event()

    @property
    def commit(self) -> str:
        """The one in effect, "" where there is none."""
        return self.facts.commit if self.facts else ""

    def _age(self, reason: str) -> str:
        if reason != REMOTE or not self._seen:
            return ""
        return f"; it answered last at {stamp(self._seen)}"

    def _know(self, facts: GitFacts | None) -> None:
        if facts != self.facts:
            self.facts = facts
            self.tell(facts)
