"""Runs a worker program on a kernel whose Landlock fails: `nolandlock.py ERRNO MODULE FD PARENT`.

A seccomp filter of its own makes landlock_create_ruleset(2) fail with that number, as older kernels and other
configurations do; then it becomes the worker.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CREATE_RULESET, SET_NO_NEW_PRIVS, SET_SECCOMP, FILTER = 444, 38, 22, 2


def main() -> None:
    code, module, *rest = sys.argv[1:]
    lines = [(0x20, 0, 0, 0), (0x15, 0, 1, CREATE_RULESET), (0x06, 0, 0, 0x0005_0000 | int(code)),
             (0x06, 0, 0, 0x7FFF_0000)]  # fmt: skip
    text = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("<H6xQ", len(lines), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(SET_SECCOMP, FILTER, program) != 0:
        raise OSError(ctypes.get_errno(), "cannot set the filter")
    os.execv(sys.executable, [sys.executable, "-I", "-m", module, *rest])


if __name__ == "__main__":
    main()
