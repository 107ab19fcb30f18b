"""A file of a shelf: read as it was written, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from offgridd.engine.shelffile import DamagedError, Saved, head_of, read, write

LONG = [*range(1000, 1200)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=64, max_size=200), st.binary(max_size=300), st.booleans())
def test_what_was_written_is_read_and_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[int], state: bytes, behind: bool
) -> None:
    folder = tmp_path_factory.mktemp("shelf")
    saved = Saved(tokens, len(tokens) - 64 if behind else 0, state)
    made = write(folder, b"key", saved)
    assert write(folder, b"key", saved).path == made.path
    assert list(folder.iterdir()) == [made.path]
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert (made.tokens.tolist(), made.start, made.size) == (tokens, saved.start, made.path.stat().st_size)
    assert read(made.path, b"key", made.size) == saved
    assert write(folder, b"other", saved).path != made.path


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_file_that_was_cut_or_altered_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    made = write(tmp_path_factory.mktemp("shelf"), b"key", Saved(LONG, 0, b"state" * 20))
    good = made.path.read_bytes()
    if data.draw(st.booleans()):
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    made.path.write_bytes(bad)
    with pytest.raises(DamagedError):
        read(made.path, b"key", len(good))


def test_what_is_no_file_or_for_another_key_is_refused(tmp_path: Path) -> None:
    made = write(tmp_path, b"key", Saved(LONG, 0, b"state"))
    with pytest.raises(DamagedError):
        read(made.path, b"other", made.size)
    os.mkfifo(tmp_path / "fifo.prefix")
    (tmp_path / "link.prefix").symlink_to(made.path)
    for name, error in (("fifo.prefix", DamagedError), ("link.prefix", OSError)):
        with pytest.raises(error):
            head_of(tmp_path / name)
