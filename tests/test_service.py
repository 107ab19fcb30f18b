"""Whether the daemon counts as alive: the watchdog's question."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from offgridd.service import answers


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass  # EMFILE
    try:
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_has_no_descriptor_left_for_the_question_is_not_dead(tmp_path: Path) -> None:
    assert not await answers(tmp_path / "gone.sock")
    with no_descriptors_left():
        assert await answers(tmp_path / "gone.sock")
    assert not await answers(tmp_path / "gone.sock")
