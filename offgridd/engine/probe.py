"""A worker that loads nothing and tries what it must not: `python -m offgridd.engine.probe FD PARENT`.

Chosen by OFFGRIDD_ENGINE=probe. It confines itself as any worker does, and answers its Load with LoadFailed: the reason
is Probed, the message a JSON object of attempts and what came of them, `allowed` or the name of an error.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from offgridd.engine.boot import confine
from offgridd.engine.jail import confine as give_up
from offgridd.engine.link import Link
from offgridd.engine.wire import Load, LoadFailed, to_worker

NEWUSER = 0x1000_0000  # CLONE_NEWUSER


def main() -> None:
    parent = int(sys.argv[2])
    confine(parent)
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    body = link.receive()
    load = to_worker(body) if body is not None else None
    if not isinstance(load, Load):
        return
    missing = give_up([path for path, _ in load.files], gpu=load.gpu)
    found: dict[str, object] = {name: _tried(attempt) for name, attempt in _attempts(parent, load.files[0][0]).items()}
    found |= {"its model": _tried(lambda: _read(load.files[0][0])), "missing": list(missing)}
    found["environment"] = sorted(os.environ)
    link.send(LoadFailed("Probed", json.dumps(found)))


def _attempts(parent: int, model: str) -> dict[str, Callable[[], object]]:
    return {
        "tcp to 1.1.1.1": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 80)),
        "tcp to loopback": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 11611)),
        "udp": lambda: _connect(socket.AF_INET, socket.SOCK_DGRAM, ("1.1.1.1", 53)),
        "tcp over IPv6": lambda: _connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 11611)),
        "a Unix socket": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, "/run/offgridd/admin.sock"),
        "an abstract socket": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0offgridd"),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "read what lies beside its model": lambda: _read(f"{model}.secret"),
        "read /etc/passwd": lambda: _read("/etc/passwd"),
        "read the daemon's environment": lambda: _read(f"/proc/{parent}/environ"),
        "read the daemon's memory": lambda: _read(f"/proc/{parent}/mem"),
        "list /": lambda: os.listdir("/"),
        "write to /tmp": lambda: _write(Path("/tmp/probe")),
        "write beside the library": lambda: _write(Path(__file__).with_name("probe.tmp")),
        "run a program": _run,
        "signal the daemon": lambda: os.kill(parent, signal.SIGCONT),
        "trace": lambda: _call("ptrace", 16, parent, 0, 0),  # PTRACE_ATTACH
        "a namespace": lambda: _call("unshare", NEWUSER),
        "a process in a namespace": _clone,
    }


def _tried(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "allowed"


def _connect(family: int, kind: int, address: tuple[str, int] | str) -> None:
    with socket.socket(family, kind) as sock:
        sock.settimeout(1)
        sock.connect(address)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


def _write(path: Path) -> None:
    path.write_text("x")
    path.unlink()


def _run() -> None:
    child = os.fork()
    if child == 0:
        try:
            os.execv("/bin/sh", ["sh", "-c", "exit 0"])
        except OSError as error:
            os._exit(error.errno or 1)
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise OSError(code, os.strerror(code))


def _clone() -> None:
    """By clone3, or where there is no such call by clone."""
    libc = ctypes.CDLL(None, use_errno=True)
    args = (ctypes.c_uint64 * 8)(NEWUSER, 0, 0, 0, signal.SIGCHLD)
    child = libc.syscall(ctypes.c_long(435), args, ctypes.c_size_t(64))
    if child < 0 and ctypes.get_errno() == errno.ENOSYS:
        number = {"x86_64": 56}.get(platform.machine(), 220)
        child = libc.syscall(ctypes.c_long(number), ctypes.c_ulong(NEWUSER | signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    os.waitpid(child, 0)


def _call(name: str, *args: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    main()
