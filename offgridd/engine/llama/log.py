"""The library's log: warnings and errors go to stderr, which the daemon keeps the end of."""

from __future__ import annotations

import ctypes
import sys
from collections import deque

import llama_cpp as lib

_WARNING, _CONTINUES = 3, 5  # ggml_log_level
_last_level = 0
_lines: deque[str] = deque(maxlen=200)


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    global _last_level
    _last_level = _last_level if level == _CONTINUES else level
    if _last_level >= _WARNING:
        line = text.decode("utf-8", "replace")
        _lines.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def forget() -> None:
    """What was said so far."""
    _lines.clear()


def said(text: str) -> bool:
    """Whether a warning since then had this in it: some failures the library tells nowhere else."""
    return any(text in line for line in _lines)


def redirect() -> None:
    lib.llama_log_set(_log, ctypes.c_void_p(0))
