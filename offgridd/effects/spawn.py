"""Starts a worker's process, with nothing of ours but one end of a socketpair.

From the main thread only: the kernel's parent-death signal fires when the spawning thread ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence

import anyio
import anyio.abc

_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "OFFGRIDD_FAILPOINTS",
)


def environment() -> dict[str, str]:
    """A worker's environment: no token, nothing it does not need."""
    kept = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    # The default spin count of libgomp makes threads collapse on a busy machine, and so do some thousands; with fewer
    # than 1,000 a quiet one is slower (benchmarks/README.md). A backtrace would start gdb.
    # numpy's own library would start threads before the worker can confine itself, and has no use for them.
    return {"GOMP_SPINCOUNT": "1000", "GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1", **kept}


async def spawn(program: Sequence[str]) -> tuple[anyio.abc.Process, socket.socket]:
    """The process, which gets its socket's descriptor and our pid as arguments, and our end. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        try:
            process = await anyio.open_process(
                [*program, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return process, ours


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"
