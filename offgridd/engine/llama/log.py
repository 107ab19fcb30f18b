"""The library's log: warnings and errors go to stderr, which the daemon keeps the end of."""

from __future__ import annotations

import ctypes
import sys
from collections import deque

import llama_cpp as lib

from offgridd.engine.llama.buffers import buffer, together
from offgridd.engine.wire import Buffer

_WARNING, _CONTINUES = 3, 5  # ggml_log_level
_last_level = 0
_lines: deque[str] = deque(maxlen=200)
_buffers: list[Buffer] = []


@lib.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
    global _last_level
    _last_level = _last_level if level == _CONTINUES else level
    if b" buffer size = " in text and (found := buffer(text.decode("utf-8", "replace"))) is not None:
        _buffers.append(found)
    if _last_level >= _WARNING:
        line = text.decode("utf-8", "replace")
        _lines.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


def forget() -> None:
    """What was said so far."""
    _lines.clear()
    _buffers.clear()


def forget_context() -> None:
    """What a context has reserved: it is made anew."""
    _buffers[:] = [one for one in _buffers if one.what == "weights"]


def buffers() -> tuple[Buffer, ...]:
    """What the library has reserved since then, to the hundredth of a MiB."""
    return together(_buffers)


def said(text: str) -> bool:
    """Whether a warning since then had this in it: some failures the library tells nowhere else."""
    return any(text in line for line in _lines)


def redirect() -> None:
    lib.llama_log_set(_log, ctypes.c_void_p(0))
