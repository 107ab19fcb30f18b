"""offgridd.lock: the same lock is the same bytes, and what is no lock is refused at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.desired import HUB, HubSource
from offgridd.core.errors import Failure, ManifestError
from offgridd.core.hub import HubFile, Pin
from offgridd.core.locking import LockEntry
from offgridd.manifest import SourceText, accept, accept_files, read_lock, write_lock

SHA = st.text("0123456789abcdef", min_size=64, max_size=64)
NUMBERS = st.sampled_from(["1" * 64, "0" * 64, "12e4" + "5" * 60])  # YAML reads these as numbers
# Printable, and of what YAML can carry.
PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40)
NAMES = st.sampled_from(["1", "1.5", "null", "no", "true", "a-b.c", "chat", "chat+a", "1+1.5"])
FILES = st.builds(HubFile, PATHS, st.integers(0, (1 << 53) - 1), SHA | NUMBERS)
REPOS = st.sampled_from(["acme/tiny", "1/2", "_a/b.c"])
REVISIONS = st.sampled_from(["main", "1.0", "0123", "a" * 40])
QUANTS = st.sampled_from([(), ("Q4_K_M",), ("Q8_0", "auto"), ("1",)])
SOURCES = st.builds(HubSource, REPOS, st.none(), st.none() | REVISIONS, QUANTS) | st.builds(
    HubSource, REPOS, PATHS, st.none() | REVISIONS
)
ENTRIES = st.builds(
    LockEntry, SOURCES, st.sampled_from([HUB, "http://127.0.0.1:8611"]), REVISIONS, st.none() | st.just("Q4_K_M"),
    st.lists(FILES, min_size=1, max_size=3).map(tuple),
)  # fmt: skip


@given(st.dictionaries(NAMES, ENTRIES, max_size=4))
def test_what_is_written_is_read_and_is_the_same_bytes_in_any_order(lock: dict[str, LockEntry]) -> None:
    text = write_lock(lock)
    assert read_lock("l", text.encode()) == lock
    assert write_lock(dict(reversed(lock.items()))) == text


ENTRY = LockEntry(HubSource("acme/tiny"), HUB, "c" * 40, "Q8_0", (HubFile("m-Q8_0.gguf", 7, "a" * 64),))
GOOD = write_lock({"chat": ENTRY})
MANIFEST = b"apiVersion: offgridd/v1\nmodels: {chat: {source: {hf: acme/tiny}}}\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("lockVersion: 1", "lockVersion: 2", 2, "lockVersion"),
        ("lockVersion: 1\n", "", 2, "lockVersion"),
        ('"' + "a" * 64 + '"', '"' + "A" * 64 + '"', 13, "sha256"),
        ("size: 7", "size: -1", 12, "size"),
        ("size: 7", 'size: "7"', 12, "size"),
        ("size: 7", "size: 9007199254740992", 12, "size"),
        ('path: "m-Q8_0.gguf"', 'path: "m\\u001b[2J.gguf"', 11, "path"),
        ('path: "m-Q8_0.gguf"', 'path: ""', 11, "path"),
        ('"acme/tiny"', '"acme"', 6, "hf"),
        ("    files:", "    more: 1\n    files:", 11, "more"),
        ('asked: ["auto"]', "asked: 1", 7, "asked"),
        ("c" * 40, "../" + "c" * 40, 10, "commit"),
        ("models:", "<<<<<<< HEAD\nmodels:", 3, "YAML"),
        ("chat", "Chat", 4, "models"),
        ("models:", "models: {}\nadapters:", 5, "adapters"),
        ('models:\n  "chat"', 'models: {}\nadapters:\n  "chat+"', 5, "adapters"),
    ],
)
def test_a_damaged_lock_refuses_the_manifest_at_its_line(old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ManifestError) as caught:
        accept_files([("m.yaml", MANIFEST), ("etc/offgridd.lock", GOOD.replace(old, new).encode())])
    first = caught.value.problems[0]
    assert first.file == "etc/offgridd.lock"
    assert says in first.message
    assert abs(first.line - line) <= 1, (first.line, first.message)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[]", b"lockVersion: 1\nmodels: {a: &a {b: *a}}", b"x" * (17 << 20)]
)
def test_what_is_no_lock_at_all(data: bytes) -> None:
    with pytest.raises(ManifestError):
        read_lock("l", data)


def test_the_manifest_is_held_against_its_lock() -> None:
    files = [("m.yaml", MANIFEST), ("offgridd.lock", GOOD.encode())]
    spec = accept_files(files).desired.models["chat"]
    assert isinstance(spec.lock, Pin)
    assert spec.lock.files == ENTRY.files
    assert accept_files(files[:1]).desired.models["chat"].lock is None
    refused = accept_files([files[0], ("offgridd.lock", write_lock({}).encode())]).desired.models["chat"].lock
    assert isinstance(refused, Failure)


def test_the_generation_follows_the_lock_and_not_its_layout() -> None:
    def digest(lock: str) -> str:
        return accept(SourceText("m", MANIFEST), (), SourceText("offgridd.lock", lock.encode())).desired.digest

    assert digest(GOOD) == digest(GOOD.replace('"', "'") + "# a word\n")
    moved = write_lock({"chat": LockEntry(ENTRY.asked, HUB, "d" * 40, "Q8_0", ENTRY.files)})
    assert digest(moved) != digest(GOOD)


def test_a_lock_of_many_models_is_read() -> None:
    many = {f"m{i}": ENTRY for i in range(10_000)}
    assert len(read_lock("l", write_lock(many).encode())) == 10_000
