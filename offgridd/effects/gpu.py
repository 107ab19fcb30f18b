"""Whether models go to a GPU where a manifest does not say: there is one, and the engine is built for one."""

from __future__ import annotations

import importlib.metadata
import re
from functools import cache
from pathlib import Path

# The libraries that llama.cpp is split into, one for each kind of device.
_BACKEND = re.compile(r"libggml-(cuda|hip|vulkan|sycl|metal|opencl|musa|cann)\b")
_DEVICES = ("nvidia[0-9]*", "kfd", "dri/renderD*")


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """By names alone: the library itself is loaded by workers only."""
    return _built_for_one() and any(next(devices.glob(kind), None) is not None for kind in _DEVICES)


@cache
def _built_for_one() -> bool:
    try:
        files = importlib.metadata.files("llama-cpp-python") or ()
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(_BACKEND.match(file.name) for file in files)
