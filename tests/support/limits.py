"""Takes something from this process that it needs, for a while, as a full disk or a busy host would."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited(what: int, to: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (to, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No further file can be opened."""
    free = os.dup(0)
    os.close(free)
    with limited(resource.RLIMIT_NOFILE, free):
        yield


@contextmanager
def high_descriptors(least: int = 1024) -> Iterator[None]:
    """What is opened has a descriptor of at least this, as in a daemon of many clients."""
    with limited(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        taken = [os.dup(0)]
        try:
            while taken[-1] < least:
                taken.append(os.dup(0))
            yield
        finally:
            for one in taken:
                os.close(one)


@contextmanager
def no_space() -> Iterator[None]:
    """No file can be written; Python ignores the signal that says so."""
    with limited(resource.RLIMIT_FSIZE, 0):
        yield
