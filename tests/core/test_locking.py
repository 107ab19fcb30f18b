"""A lock answers the question it was made for, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from offgridd.core.desired import HubSource, ModelSpec, PackageSource, Secret
from offgridd.core.errors import Failure
from offgridd.core.hub import HubFile, Pin
from offgridd.core.keys import question_key, source_key
from offgridd.core.locking import entry_of, locked, wanting

SOURCE = HubSource("acme/tiny", revision="main", quants=("Q8_0", "Q4_K_M"), max_size=100)
SPEC = ModelSpec("chat", SOURCE)
FILES = (HubFile("a-00001-of-00002.gguf", 40, "a" * 64), HubFile("a-00002-of-00002.gguf", 50, "b" * 64))
PIN = Pin(question_key(SPEC), "acme/tiny", "c" * 40, FILES, "Q8_0", "it was asked for")
LOCK = {"chat": entry_of(SOURCE, PIN)}


def asks(**changes: Any) -> ModelSpec:
    return replace(SPEC, source=replace(SOURCE, **changes))


def reason(found: object) -> str:
    assert isinstance(found, Failure), found
    assert (found.condition, found.terminal) == ("Resolved", True)
    return found.reason


def test_what_was_found_is_found_again() -> None:
    found = locked(SPEC, LOCK)
    assert isinstance(found, Pin)
    assert replace(found, why=PIN.why) == PIN


@pytest.mark.parametrize(
    "spec",
    [
        asks(repo="acme/other"), asks(revision=None), asks(revision="v2"), asks(file="a-00001-of-00002.gguf"),
        asks(quants=("Q4_K_M", "Q8_0")), asks(quants=()), asks(max_size=89), replace(SPEC, sha256="a" * 64),
    ],
)  # fmt: skip
def test_another_question_is_not_answered(spec: ModelSpec) -> None:
    assert reason(locked(spec, LOCK)) == "LockOutdated"
    assert wanting({"chat": spec}, LOCK, ()) == (spec,)


@pytest.mark.parametrize(
    "spec", [asks(endpoint="http://mirror"), asks(token=Secret("env", "T")), asks(max_size=90), asks(max_size=None)]
)
def test_how_it_is_reached_and_limits_it_keeps_change_nothing(spec: ModelSpec) -> None:
    assert isinstance(locked(spec, LOCK), Pin)
    assert wanting({"chat": spec}, LOCK, ()) == ()
    assert wanting({"chat": spec}, LOCK, ["chat"]) == (spec,)


def test_a_declared_sha256_must_be_the_locked_one() -> None:
    one = {"chat": replace(LOCK["chat"], files=FILES[:1])}
    assert isinstance(locked(replace(SPEC, sha256="a" * 64), one), Pin)
    assert reason(locked(replace(SPEC, sha256="b" * 64), one)) == "LockOutdated"


def test_with_a_lock_every_model_of_a_hub_must_be_in_it() -> None:
    assert reason(locked(replace(SPEC, name="new"), LOCK)) == "NotLocked"
    assert locked(ModelSpec("local", PackageSource("p", "f.gguf")), LOCK) is None


def test_keys_follow_the_bytes_not_the_commit() -> None:
    """A lock that only names a later commit verifies nothing anew; other bytes, or a lock that refuses, do."""
    with_lock = replace(SPEC, lock=PIN)
    assert source_key(with_lock) == source_key(replace(SPEC, lock=replace(PIN, commit="d" * 40, why="x")))
    others = [SPEC, replace(SPEC, lock=replace(PIN, files=FILES[:1])), replace(SPEC, lock=locked(SPEC, {}))]
    assert len({source_key(spec) for spec in [with_lock, *others]}) == 4
    assert {question_key(spec) for spec in [with_lock, *others]} == {question_key(SPEC)}
