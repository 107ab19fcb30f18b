"""Pins: kept, read, and a damaged one is as if it were not there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from offgridd.core.hub import HubFile, Pin
from offgridd.effects.state import State

PIN = Pin("k", "a/b", "c" * 40, (HubFile("m.gguf", 5, "ab" * 32),), "Q8_0", "asked")


def test_a_pin_outlives_the_state_object(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert state.pins.get("m") is None
    assert state.pins.keep("m", PIN)
    state.close()
    state = State(tmp_path / "state")
    assert (state.pins.get("m"), state.pins.all()) == (PIN, {"m": PIN})
    state.pins.drop("m")
    assert state.pins.all() == {}
    state.close()


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    state.pins.keep("good", PIN)
    with sqlite3.connect(tmp_path / "state" / "state.db") as db:
        db.executemany("insert into pins values (?, ?)", [("a", "{}"), ("b", "nonsense"), ("c", 5), ("d", None)])
    db.close()
    assert state.pins.all() == {"good": PIN}
    assert state.pins.get("b") is None
    state.close()
