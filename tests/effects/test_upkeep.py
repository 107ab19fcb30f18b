"""What is kept of a change that was found good: what it is pinned to, and what its adapters are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from support.specs import HOLD

from offgridd.core import events as ev
from offgridd.core.desired import AdapterSpec, Desired, FileSource, HubSource, LoadSpec, ModelSpec
from offgridd.core.fold import fold
from offgridd.core.hub import HubFile, Pin
from offgridd.core.measuring import Job
from offgridd.core.observed import Observed
from offgridd.effects.state import State
from offgridd.effects.updates import Now
from offgridd.effects.upkeep import Upkeep

OLD = ModelSpec(
    "m", FileSource("/m"), benchmark=HOLD, load=LoadSpec(adapters=(AdapterSpec("a", HubSource("o/r", "a.gguf")),))
)
NEW = replace(OLD, load=LoadSpec(adapters=(AdapterSpec("a", HubSource("o/r", "a.gguf", "v2")),)))
DESIRED = Desired(1, "d", models={"m": OLD}, challengers={"m": NEW})


def pin(letter: str) -> Pin:
    return Pin("key", "o/r", letter * 40, (HubFile("a.gguf", 3, letter * 64),), None, "asked for")


class Renaming:
    def rename(self, old: str, new: str) -> None:
        assert (old, new) == ("m@next", "m")


async def test_what_the_adapters_of_a_change_are_pinned_to_outlives_a_restart_once_it_serves(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.pins.keep("m+a", pin("1"))
    state.pins.keep("m@next+a", pin("2"))
    observed = fold(Observed(), [ev.Resolved("m+a", pin("1")), ev.Resolved("m@next+a", pin("2"))], 1.0)
    never: Any = None

    async def took(_name: str, _spec: ModelSpec, tell: Any) -> bool:
        tell()
        return True

    now = Now(lambda: DESIRED, lambda: observed, lambda _: None, never, never)
    upkeep = Upkeep(now, Renaming(), never, never, never, state.pins, took, never)  # type: ignore[arg-type]
    await upkeep._take(Job("take", "m", "key", NEW), "it is as fast")
    assert state.pins.all() == {"m+a": pin("2")}
    state.close()
