"""Files that are due are read again, one after the other, and not more often than that can be remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest

from offgridd.core.desired import Desired, FileSource, ModelSpec, StoreSpec
from offgridd.core.observed import Observed
from offgridd.effects.records import Records
from offgridd.effects.scrub import Scrub
from offgridd.effects.state import State
from offgridd.effects.updates import Now

A = ModelSpec("a", FileSource("/m/a.gguf"))


class Checker:
    """Says that all is well, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked, self.again = 0, anyio.Event()

    async def check(
        self, specs: Iterable[ModelSpec], report: Callable[[int, int], None], *, deep: bool, share: float
    ) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 1:
            self.again.set()
        return {"files": [], "good": True}


class ReadOnly(Records[float]):
    """Of a disk that is full."""

    def keep(self, model: str, value: float) -> bool:
        return False


@pytest.mark.parametrize("full", [False, True])
async def test_what_was_read_is_left_alone(tmp_path: Path, full: bool) -> None:
    state, checker = State(tmp_path), Checker()
    state.checked.keep("a", 0.0)  # in 1970
    times = ReadOnly(state._db, "checked", float, "when files were read last") if full else state.checked
    desired = Desired(1, "1", models={"a": A}, store=StoreSpec(verify_every=3600.0))
    now = Now(lambda: desired, Observed, lambda _: None, anyio.sleep_forever, anyio.sleep_forever)
    async with anyio.create_task_group() as group:
        group.start_soon(Scrub(checker, times, dict, now).run)
        with anyio.move_on_after(0.5):
            await checker.again.wait()
        group.cancel_scope.cancel()
    assert checker.asked == 1
    state.close()
