"""Landlock: a process gives up the file system, but for what it names. See landlock(7).

No library in the lists does it for Python 3.11 with all versions of the interface; it is three system calls.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
IOCTL_DEV = 1 << 15
CHANGE_FILES: Final = 1 << 5 | 1 << 8 | 1 << 14  # remove and make plain files, cut them
READ: Final = READ_FILE | READ_DIR
# Rights to files that each version of the interface knows: all of them are given up.
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = 0b11  # bind and connect, from version 4 on
_SCOPES = 0b11  # abstract Unix sockets and signals, from version 6 on
SCOPES_FROM: Final = 6

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


class Allowed(NamedTuple):
    """A file, or all below a folder, and the rights to it."""

    path: Path
    rights: int


def version() -> int:
    """Of the kernel's interface, from 1 on. Raises OSError where it has none, or does not let us."""
    return _call(_CREATE, None, 0, _VERSION)


def restrict(allowed: Iterable[Allowed]) -> int:
    """This thread, and all that it starts, may do nothing but that; gives the interface's version. Raises OSError.

    What is not there is left out: it may not come into being later.
    """
    known = version()
    files = max(rights for since, rights in _FILES.items() if since <= known)
    asked = _Ruleset(files, _TCP if known >= 4 else 0, _SCOPES if known >= SCOPES_FROM else 0)
    size = 8 if known < 4 else 16 if known < SCOPES_FROM else 24
    rules = _call(_CREATE, ctypes.byref(asked), size, 0)
    try:
        for one in allowed:
            _allow(rules, one, files)
        _call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return known


def _allow(rules: int, one: Allowed, files: int) -> None:
    try:
        fd = os.open(one.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        of_files = EXECUTE | WRITE_FILE | READ_FILE | IOCTL_DEV
        rights = one.rights & files & (-1 if one.path.is_dir() else of_files)
        rule = _Beneath(rights, fd)
        _call(_ADD, rules, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


def _call(number: int, *args: object) -> int:
    found = int(_libc.syscall(ctypes.c_long(number), *args))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
