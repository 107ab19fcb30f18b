"""What a worker says that it takes of memory."""

from __future__ import annotations

import mmap
from pathlib import Path

from offgridd.engine.usage import Usage

SIZE, SLACK = 64 << 20, 8 << 20


def test_own_memory_is_counted_and_its_peak_stays() -> None:
    usage = Usage()
    before = usage.look().own
    block = bytearray(b"x") * SIZE
    at_most = usage.look().own
    del block
    after = usage.look()
    assert SIZE - SLACK < at_most - before < SIZE + SLACK
    assert after.own < at_most - SIZE + SLACK
    assert usage.peak == at_most


def test_pages_of_files_are_counted_once_they_are_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    usage = Usage()
    own = usage.look().own
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        untouched = usage.look().mapped
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        touched = usage.look()
    assert untouched < SLACK
    assert SIZE <= touched.mapped < SIZE + SLACK
    assert touched.own - own < SLACK
