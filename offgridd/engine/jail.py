"""What a worker gives up before it opens a model's file, which nobody trusts: see docs/sandbox.md.

It keeps reading its own model, Python and the libraries, and runs nothing but the interpreter (the template helper).
It may write nowhere but on its shelf, reach no network, and signal nobody outside. Called while there is one thread.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

from offgridd.engine import landlock, seccomp
from offgridd.engine.landlock import CHANGE_FILES, EXECUTE, IOCTL_DEV, READ, READ_DIR, READ_FILE, WRITE_FILE, Allowed

MOST_FILES = 4096
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo",
              "/etc/localtime", "/opt/rocm", "/usr/local/cuda")  # fmt: skip
# What Python, the C library, libgomp and our own look at the load read while they run.
_KERNEL = ("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/pressure", "/proc/loadavg",
           "/proc/sys/vm/overcommit_memory", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/random",
           "/dev/zero")  # fmt: skip
_GPUS = ("/dev/dri", "/dev/kfd", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset",
         *(f"/dev/nvidia{number}" for number in range(16)))  # fmt: skip
_GPU_FILES = ("/proc/driver/nvidia", "/sys/class/drm", "/sys/class/kfd", "/sys/bus/pci", "/sys/devices", "/etc/OpenCL",
              "/usr/share/vulkan", "/etc/vulkan")  # fmt: skip
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")


def confine(files: Iterable[str], *, gpu: bool, shelf: str = "") -> tuple[str, ...]:
    """Reads `files`; with `gpu` also devices; makes, reads and removes files in the folder `shelf`.

    Gives what could not be given up, in words; empty: all of it.
    """
    missing = []
    threads = len(os.listdir("/proc/self/task"))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        known = landlock.restrict(_allowed(files, gpu=gpu, shelf=shelf))
        if known < landlock.SCOPES_FROM:
            missing.append(f"signals to other processes: Landlock {known} of the kernel can not forbid them")
        if threads > 1:
            missing.append(f"files, in {threads - 1} threads that were there before")
    except OSError as error:
        missing.append(f"files: Landlock says {error.strerror}")
    try:
        seccomp.restrict()
    except OSError as error:
        missing.append(f"sockets: seccomp says {error.strerror}")
    return tuple(missing)


def _allowed(files: Iterable[str], *, gpu: bool, shelf: str) -> Iterable[Allowed]:
    package = Path(__file__).resolve().parents[2]  # where offgridd is imported from
    yield Allowed(package, READ_DIR)  # a checkout: the interpreter looks through the folder that it is in
    interpreter = Path(sys.executable).resolve()
    for place in (*_LIBRARIES, *_KERNEL, sys.prefix, sys.base_prefix, package / "offgridd"):
        yield Allowed(Path(place), READ)
    for program in (Path(sys.executable), interpreter, *map(Path, _LOADERS)):
        yield Allowed(program, READ_FILE | EXECUTE)
    yield Allowed(Path("/dev/null"), READ_FILE | WRITE_FILE)
    for file in files:
        yield Allowed(Path(file), READ_FILE)
    if shelf:
        yield Allowed(Path(shelf), READ | WRITE_FILE | CHANGE_FILES)
    if gpu:
        for device in _GPUS:
            yield Allowed(Path(device), READ | WRITE_FILE | IOCTL_DEV)
        for place in _GPU_FILES:
            yield Allowed(Path(place), READ)
