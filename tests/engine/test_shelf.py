"""Prefixes on disk: what is kept is there in the next life, whole or not at all, and within its bounds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from offgridd.engine import shelf as shelves
from offgridd.engine.batch import Batch
from offgridd.engine.fake import Fake
from offgridd.engine.port import Memory, Part
from offgridd.engine.sequence import Sequence
from offgridd.engine.shelf import DamagedError, Saved, Shelf, read
from offgridd.engine.states import States

LONG = [*range(1000, 1200)]


def made(folder: Path, budget: int = 1 << 20, key: str = "key") -> Shelf:
    return Shelf(folder, key, budget)


def kept(folder: Path, *saved: Saved, budget: int = 1 << 20) -> list[Path]:
    """The files, in the order in which they were made."""
    shelf, paths = made(folder, budget), list[Path]()
    for one in saved:
        before = set(folder.glob("*.prefix"))
        shelf.keep(*one)
        deadline = time.monotonic() + 10
        while set(folder.glob("*.prefix")) == before and time.monotonic() < deadline:
            os.sched_yield()
        paths += sorted(set(folder.glob("*.prefix")) - before)
    shelf.close()
    return paths


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=64, max_size=200), st.binary(max_size=300), st.integers(0, 9))
def test_what_is_kept_is_read_in_the_next_life(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], state: bytes, more: int
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    kept(folder, Saved(tokens, 0, state))
    again = made(folder)
    found = again.find([*tokens, *[7] * more], 0, whole=True)
    assert found == [Saved(tokens, 0, state)]
    assert again.find([*tokens, 7], len(tokens), whole=False) == []
    assert (folder.stat().st_mode & 0o777, {f.stat().st_mode & 0o777 for f in folder.iterdir()}) == (0o700, {0o600})
    assert again.held == sum(f.stat().st_size for f in folder.iterdir())


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_file_that_was_cut_or_altered_is_refused_and_removed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    (path,) = kept(folder, Saved(LONG, 0, b"state" * 20))
    good = path.read_bytes()
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    path.write_bytes(bad)
    with pytest.raises(DamagedError):
        read(path, b"key", len(good))
    again = made(folder)
    assert again.find(LONG, 0, whole=False) == []
    assert again.find(LONG, 0, whole=False) == []
    if len(bad) != len(good) or bad[:16] != good[:16]:
        assert not path.exists()


def test_another_key_or_what_changes_while_we_look_is_not_used(tmp_path: Path) -> None:
    (path,) = kept(tmp_path, Saved(LONG, 0, b"state"))
    assert made(tmp_path, key="other").find(LONG, 0, whole=False) == []
    assert not path.exists()
    (path,) = kept(tmp_path, Saved(LONG, 0, b"state"))
    again = made(tmp_path)
    path.unlink()
    os.mkfifo(path)
    assert again.find(LONG, 0, whole=False) == []


def test_what_is_no_file_of_ours_is_left_or_removed_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "half.part").write_bytes(b"x")
    (tmp_path / "empty.prefix").touch()
    (tmp_path / "folder.prefix").mkdir()
    (tmp_path / "link.prefix").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo.prefix")
    assert made(tmp_path).find(LONG, 0, whole=False) == []
    assert {path.name for path in tmp_path.iterdir()} == {"folder.prefix", "link.prefix", "fifo.prefix"}
    gone = made(tmp_path / "nowhere")
    gone.keep(LONG, 0, b"state")
    gone.close()
    assert gone.held == 0


def test_pieces_follow_each_other_and_the_beginning_outlives_what_goes_on_from_it(tmp_path: Path) -> None:
    one, two = Saved(LONG[:100], 0, b"a" * 1000), Saved(LONG, 100, b"b" * 1000)
    other = Saved([5] * 80, 0, b"c" * 1000)
    kept(tmp_path, one, other, two)
    again = made(tmp_path)
    assert again.find(LONG, 0, whole=False) == [one, two]
    assert again.find(LONG[:170], 0, whole=False)[-1] == two, "its first half is of use"
    assert again.find(LONG, 100, whole=False) == [two]
    assert [found.start for found in again.find([*LONG[:100], 9, 9], 0, whole=True)] == [0]
    again.close()
    small = made(tmp_path, budget=3500)
    assert small.find([5] * 80, 0, whole=False) == [], "it was not used for longest"
    assert small.find(LONG, 0, whole=False) == [one, two]


def test_a_budget_holds_over_lives_and_nothing_waits_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, *(Saved([i] * 80, 0, bytes(1000)) for i in range(12)), budget=6000)
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) <= 6000
    assert made(tmp_path, budget=6000).find([11] * 80, 0, whole=False)
    monkeypatch.setattr(shelves, "PENDING", 10)
    shelf = made(tmp_path / "other")
    shelf.keep(LONG, 0, bytes(1000))
    shelf.keep(LONG[:65], 0, b"ok")
    shelf.keep(LONG[:20], 0, b"")
    shelf.close()
    assert shelf._queue == type(shelf._queue)()


@pytest.mark.parametrize("memory", list(Memory))
def test_a_sequence_begins_with_what_an_earlier_life_has_kept(tmp_path: Path, memory: Memory) -> None:
    def life(tokens: list[int]) -> tuple[int, list[int]]:
        """How many tokens were not computed, and what a model holds then."""
        model = Fake(4096, 1, memory=memory)
        batch = Batch(1, 4096, 512, follows=memory is not Memory.WHOLE)
        shelf = made(tmp_path)
        states = States(model, batch, 1 << 20, shelf)
        one = Sequence(1, "a", list(tokens), len(tokens), 5)
        batch.waiting.put(one)
        states.fill()
        cached = one.cached
        while one.left:
            for decode in batch.next():
                model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in decode.rows])
                batch.decoded(decode, 0.1)
        held = [cell.checksum for cell in model._cache[0]]
        states.release(one)
        shelf.close()
        return cached, held

    tokens = [i % 250 for i in range(300)]
    assert life(tokens)[0] == 0
    cached, held = life([*tokens, 1, 2, 3])
    assert cached == 300
    assert life([*tokens, 1, 2, 3])[1] == held
    assert life([*tokens[:200], 9, 9])[0] == (0 if memory is Memory.WHOLE else 200)
