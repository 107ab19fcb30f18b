"""Which files are looked at: each once, for all models that have it, and those of which nothing is known are named."""

from __future__ import annotations

import pytest

from offgridd.core.desired import FileSource, HubSource, ModelSpec
from offgridd.core.errors import Failure
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import source_key
from offgridd.core.observed import Identity, ModelFacts, ModelHeader, Observed, Part, Retry, VerifiedFile
from offgridd.core.verifying import Subject, overdue, subjects

HUB = HubSource("a/b")
PIN = Pin("k", "a/b", "c" * 40, (HubFile("x-1.gguf", 5, "1"), HubFile("x-2.gguf", 6, "2")), None, "")
HEADER = ModelHeader("llama", "", 0, 1, 1, 1, 1, 1, 1, 1, True)


def test_a_blob_of_two_models_is_looked_at_once() -> None:
    specs = [ModelSpec("one", HUB), ModelSpec("two", HUB, aliases=("t",))]
    assert subjects(specs, Observed(), {"one": PIN, "two": PIN}) == [
        Subject("x-1.gguf", "1", ("one", "two"), size=5),
        Subject("x-2.gguf", "2", ("one", "two"), size=6),
    ]


def test_what_the_loop_or_a_lock_says_wins_over_what_was_pinned() -> None:
    other = Pin("k", "a/b", "d" * 40, (HubFile("y.gguf", 7, "3"),), None, "")
    spec = ModelSpec("one", HUB, lock=other)
    assert [s.sha256 for s in subjects([spec], Observed(), {"one": PIN})] == ["3"]


def test_local_files_are_looked_at_where_they_lie() -> None:
    spec = ModelSpec("m", FileSource("/m/x.gguf"))
    identity = Identity(1, 2, 3, 4)
    file = VerifiedFile("/real/x.gguf", identity, "1", HEADER, source_key(spec), (Part("/real/y.gguf", identity, "2"),))
    observed = Observed(models={"m": ModelFacts(file=file)})
    assert [(s.path, s.sha256, s.size) for s in subjects([spec], observed, {})] == [
        ("/real/x.gguf", "1", 3),
        ("/real/y.gguf", "2", 3),
    ]


def test_of_what_nothing_is_known_the_reason_is_told() -> None:
    specs = [ModelSpec("m", FileSource("/m/x.gguf")), ModelSpec("h", HUB), ModelSpec("i", HUB)]
    retry = Retry(source_key(specs[0]), Failure("Resolved", "FileNotFound", "cannot find it"), 1, None)
    observed = Observed(models={"m": ModelFacts(verify_retry=retry)})
    found = subjects(specs, observed, {})
    assert [(s.file, s.sha256, s.models) for s in found] == [
        ("x.gguf", None, ("m",)),
        ("h", None, ("h",)),
        ("i", None, ("i",)),
    ]
    assert found[0].why == "cannot find it"
    assert "not known yet" in found[1].why


@pytest.mark.parametrize(
    ("read", "every", "now", "due"),
    [
        ({}, 10, 100, None),
        ({"a": 95, "b": 91}, 10, 100, None),
        ({"a": 90, "b": 80}, 10, 100, "b"),
        ({"a": 0}, 0, 100, None),
        ({"a": 80, "b": 101}, 10, 100, "b"),
        ({"a": 101}, 0, 100, None),
    ],
)
def test_the_one_that_was_not_read_for_longest_is_due(
    read: dict[str, float], every: float, now: float, due: str | None
) -> None:
    assert overdue(read, every, now) == due
