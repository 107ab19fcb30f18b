"""Makes a lock: asks for what is new, was asked otherwise or is to be updated, and leaves all else as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import anyio
import anyio.to_thread

from offgridd.core.desired import HubSource, MemorySpec, ModelSpec, Use
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError, Pin
from offgridd.core.keys import question_key
from offgridd.core.locking import LockEntry, entry_of
from offgridd.core.pinning import Question
from offgridd.effects.getting import of_hub, told

AT_ONCE = 4


class Locker:
    """`ask` is `Origins.ask`."""

    def __init__(self, ask: Callable[[Question], Pin | Failure]) -> None:
        self._ask = ask
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def entries(self, specs: Sequence[ModelSpec], memory: MemorySpec | None) -> Mapping[str, LockEntry | Failure]:
        """What each of `specs`, all of them of a hub, means now; `memory` bounds `auto`."""
        found: dict[str, LockEntry | Failure] = {}

        async def one(spec: ModelSpec) -> None:
            work = partial(self._entry, spec, memory)
            found[spec.name] = await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

        async with anyio.create_task_group() as group:
            for spec in specs:
                group.start_soon(one, spec)
        return found

    def _entry(self, spec: ModelSpec, memory: MemorySpec | None) -> LockEntry | Failure:
        assert isinstance(spec.source, HubSource)
        asked = Question(spec.source, question_key(spec), spec.sha256, Use(spec.load, spec.cache_ram), memory)
        try:
            pin = told(partial(self._pinned, asked), "Resolved")
        except ActionFailed as failed:
            return failed.failure
        return pin if isinstance(pin, Failure) else entry_of(spec.source, pin)

    def _pinned(self, asked: Question) -> Pin | Failure:
        try:
            return self._ask(asked)
        except HubError as error:
            raise of_hub("Resolved", error) from error
