"""Pipes that bundles go through."""

from __future__ import annotations

import os
import threading

from support.limits import high_descriptors

from offgridd.effects.bundles import Opened


def test_a_pipe_is_read_and_written_with_many_files_open() -> None:
    data, checks = os.urandom(1 << 18), list[int]()
    with high_descriptors():
        out, into = os.pipe()
        assert min(out, into) > 1023

        def write() -> None:
            with open(into, "wb"):
                Opened(into, lambda: None).write(data)

        writing = threading.Thread(target=write)
        writing.start()
        with open(out, "rb"):
            assert Opened(out, lambda: checks.append(1)).read() == data, "to its end"
        writing.join()
    assert checks
