"""Benchmarks that are kept: which are our own, what is doubled, and what of the state can not be read."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.records import lines, record

from offgridd.api.benchimport import records
from offgridd.effects.benchrecords import BenchmarkRecords, Taken, Wanted
from offgridd.effects.database import STEPS
from offgridd.effects.state import State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path / "state")
    yield made
    made.close()


def uids(kept: BenchmarkRecords, **wanted: Any) -> list[int]:
    return [int(one["uid"], 16) for one in kept.listed(Wanted(**wanted))]


def test_imported_ones_are_listed_and_never_our_own(state: State) -> None:
    kept = state.benchmarks
    kept.keep("smol", record(1))
    assert kept.take(records(lines(record(2), record(3, model="other")))) == Taken(2, 0)
    assert uids(kept) == [3, 2, 1]
    assert uids(kept, model="smol") == [2, 1]
    assert uids(kept, limit=1, before=3) == [2]
    assert [one.get("imported", False) for one in kept.listed(Wanted())] == [True, True, False]
    assert uids(kept, own=True, load_key=record()["load_key"]) == [1]
    assert kept.newest() == {"smol": [{"id": 1, **record(1)}]}


def test_none_is_doubled_whoever_brings_it(state: State) -> None:
    kept = state.benchmarks
    kept.keep("smol", record(1))
    assert kept.take(records(lines(record(1), record(2), record(2)))) == Taken(1, 1)
    assert kept.take(records(lines(record(2), record(1)))) == Taken(0, 2)
    assert uids(kept) == [2, 1]
    assert kept.newest()["smol"][0]["uid"] == record(1)["uid"], "it stays our own"


def test_what_was_imported_comes_back_as_it_was(state: State) -> None:
    given = record(5, model="mo\u00efd\u00e8l \U0001f600", load__x="\u0000\\\"'", results__0__label="a & b")
    state.benchmarks.take(records(lines(given)))
    (found,) = state.benchmarks.listed(Wanted())
    assert found == {"id": 1, **given, "imported": True}


def test_one_that_can_not_be_read_hides_no_other(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = state.benchmarks
    for number in range(3):
        kept.keep("smol", record(number))
    with sqlite3.connect(tmp_path / "state" / "state.db") as db:
        bad = ["nonsense", "{}", "[]", None, json.dumps(record(8, memory={})), "[" * 9999]
        db.executemany("insert into benchmarks (model, record) values ('smol', ?)", [(text,) for text in bad])
    db.close()
    kept.keep("smol", record(9))
    with caplog.at_level(logging.WARNING):
        assert uids(kept, model="smol", limit=3) == [9, 2, 1], "as many as were asked for"
    assert caplog.text.count("it is left out") == len(bad)
    assert uids(kept) == [9, 2, 1, 0]


def test_results_of_an_earlier_version_have_a_name_from_then_on(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    db = sqlite3.connect(folder / "state.db")
    db.executescript("".join(STEPS[:4]) + "pragma user_version=4")
    for number in range(2):
        old = {name: value for name, value in record(number).items() if name not in ("uid", "load_seconds")}
        for name in ("reserved", "gpu_reserved_bytes", "estimate"):
            del old["memory"][name]
        db.execute(
            "insert into benchmarks (model, load_key, at, record) values ('smol', 'k', 0, ?)", (json.dumps(old),)
        )
    db.commit()
    db.close()
    seen = []
    for _ in range(2):
        state = State(folder)
        seen.append([one["uid"] for one in state.benchmarks.listed(Wanted())])
        state.close()
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 2
    assert all(len(uid) == 32 for uid in seen[0])
