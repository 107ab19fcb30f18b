"""What is pulled is kept by whoever is alone with its blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offgridd.core.desired import HubSource
from offgridd.core.hub import HubFile, Pin
from offgridd.effects.holds import Holds
from offgridd.effects.keeper import Keeper
from offgridd.effects.store import Store

pytestmark = pytest.mark.anyio
SHA = "a" * 64
PIN = Pin("k", "o/r", "c" * 40, (HubFile("m.gguf", 1, SHA),), None, "")


class Hub:
    """It has everything."""

    def ask(self, _asked: object) -> Pin:
        return PIN

    async def get(self, *_: object) -> None:
        pass


class Pins(dict[str, Pin]):
    """`busy`: who was worked on when a pin was kept."""

    def __init__(self, holds: Holds) -> None:
        super().__init__()
        self._holds, self.busy = holds, set[str]()

    def all(self) -> dict[str, Pin]:
        return dict(self)

    def keep(self, model: str, pin: Pin) -> bool:
        self[model], self.busy = pin, self._holds.busy()
        return True


async def test_a_pull_does_not_write_notes_beside_who_verifies_the_same_file(tmp_path: Path) -> None:
    """What two write at once, one of them loses."""
    holds, store = Holds(), Store(tmp_path)
    pins = Pins(holds)
    (tmp_path / "blobs").mkdir()
    there: Any = Hub(), holds, store, pins
    await Keeper(*there).pull(HubSource("o/r"), lambda _here, _size: None)
    assert (list(pins), pins.busy, holds.busy()) == (["kept/o/r/m.gguf"], {SHA}, set())
    assert store.notes_of(store.blob(SHA))["kept"] == "kept/o/r/m.gguf"
