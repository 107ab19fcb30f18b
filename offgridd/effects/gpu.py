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


def gpu_names(root: Path = Path("/")) -> list[str]:
    """Of those that this machine has a driver for: NVIDIA's own names, of others the PCI ids of maker and device.

    https://download.nvidia.com/XFree86/Linux-x86_64/570.86.16/README/procinterface.html, and sysfs of the kernel.
    """
    found = [_model(file) for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))]
    for device in sorted(root.glob("sys/class/drm/renderD*/device")):
        maker, kind = (_text(device / name).removeprefix("0x") for name in ("vendor", "device"))
        if maker and kind and not (maker == "10de" and found):
            found.append(f"pci {maker}:{kind}")
    return found


def _model(information: Path) -> str:
    lines = (line.partition(":") for line in _text(information).splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "Model"), "NVIDIA, of unknown model")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


@cache
def _built_for_one() -> bool:
    try:
        files = importlib.metadata.files("llama-cpp-python") or ()
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(_BACKEND.match(file.name) for file in files)
