"""The library's log: warnings and errors go to stderr, which the daemon keeps the end of."""

from __future__ import annotations

import ctypes
import sys

import llama_cpp as lib

_WARNING, _CONTINUES = 3, 5  # ggml_log_level
_last_level = 0


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    global _last_level
    _last_level = _last_level if level == _CONTINUES else level
    if _last_level >= _WARNING:
        sys.stderr.write(text.decode("utf-8", "replace"))
        sys.stderr.flush()


def redirect() -> None:
    lib.llama_log_set(_log, ctypes.c_void_p(0))
