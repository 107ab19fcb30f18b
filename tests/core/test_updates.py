"""When a hub is asked again, and what counts as newer."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.desired import HubSource, ModelSpec, PackageSource, UrlSource
from offgridd.core.errors import Failure
from offgridd.core.hub import HubFailure, HubFile, Pin, RepoTree
from offgridd.core.updates import (
    AGAIN,
    FIRST,
    Look,
    current_look,
    due_at,
    has_moved,
    is_other,
    look_key,
    why_fixed,
    why_not,
)

FILES = (HubFile("a.gguf", 1, "a" * 64), HubFile("b.gguf", 2, "b" * 64))
PIN = Pin("k", "o/r", "c" * 40, FILES, "Q8_0", "")
SPEC = ModelSpec("m", HubSource("o/r"), check_every=7200.0)
SEEN = Look(look_key(PIN), 1000.0, "c" * 40)


def test_another_commit_with_the_same_files_is_nothing_newer() -> None:
    assert not has_moved(PIN, RepoTree("o/r", "d" * 40, (*FILES, HubFile("README.md", 9, None))))
    for files in (
        FILES[:1],
        (FILES[0], replace(FILES[1], sha256="e" * 64)),
        (FILES[0], replace(FILES[1], sha256=None)),
    ):
        assert has_moved(PIN, RepoTree("o/r", "d" * 40, files))


@given(
    every=st.floats(1, 1e6), at=st.floats(0, 1e9), since=st.floats(0, 1e9), now=st.floats(0, 1e9),
    failed=st.booleans(), kind=st.sampled_from(["none", "other", "mine"]),
)  # fmt: skip
def test_a_look_is_due_when_the_last_one_is_too_old(
    every: float, at: float, since: float, now: float, failed: bool, kind: str
) -> None:
    spec = replace(SPEC, check_every=every)
    look = replace(SEEN, at=at, failure=HubFailure("HubTimeout", "") if failed else None)
    look = replace(look, of="x") if kind == "other" else look
    due = due_at(spec, PIN, None if kind == "none" else look, since, now)
    assert due is not None
    mine = kind == "mine" and at <= now  # else its clock was wrong
    start, most = (at, AGAIN if failed else every) if mine else (since, FIRST)
    assert start + min(1.0, every) <= due <= start + min(every, most)
    assert due_at(replace(spec, updates="manual"), PIN, look, since, now) is None


def test_what_can_not_change_is_never_asked_for() -> None:
    for spec in (
        replace(SPEC, sha256="a" * 64),
        replace(SPEC, source=HubSource("o/r", revision="0123456789" * 4)),
        replace(SPEC, source=UrlSource("https://x/a.gguf")),
        replace(SPEC, source=PackageSource("p", "f")),
    ):
        assert why_fixed(spec)
        assert due_at(spec, PIN, None, 0.0, 0.0) is None
        assert why_not(spec, suspended=False)
    assert not why_fixed(replace(SPEC, source=HubSource("o/r", revision="v1.0")))


def test_what_is_locked_or_suspended_is_not_updated_by_itself() -> None:
    assert why_not(SPEC, suspended=False) == ""
    assert "suspended" in why_not(SPEC, suspended=True)
    assert "suspended" in why_not(replace(SPEC, suspend=True), suspended=False)
    for lock in (PIN, Failure("Resolved", "NotLocked", "")):
        assert "lock --update m" in why_not(replace(SPEC, lock=lock), suspended=False)


def test_a_look_at_other_bytes_says_nothing() -> None:
    assert current_look(PIN, SEEN) is SEEN
    assert current_look(replace(PIN, files=FILES[:1]), SEEN) is None
    assert current_look(PIN, None) is None


def test_a_look_for_another_question_says_nothing() -> None:
    """Another revision may mean the same files: what is newer than they are at one is not so at the other."""
    assert current_look(replace(PIN, key="other"), SEEN) is None
    assert current_look(replace(PIN, commit="d" * 40, why="?"), SEEN) is SEEN


def test_the_same_contents_by_another_name_are_nothing_newer() -> None:
    assert not is_other(replace(PIN, files=tuple(replace(f, path=f"x/{f.path}") for f in FILES)), PIN)
    assert is_other(replace(PIN, files=FILES[:1]), PIN)
