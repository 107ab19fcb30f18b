"""seccomp: a process gives up system calls, for good and for all of its threads. See seccomp(2).

What is given up fails with EPERM. A call by another architecture's numbers ends the process. Of clone(2) its flags for
new namespaces are given up; a filter can not see those of clone3(2), so that there is no such call: libc then clones.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final, NamedTuple

_SET_FILTER, _TSYNC = 1, 1
_KILL, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
# Of classic BPF: absolute word, jumps by constant, return constant.
_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NR_AT, _ARCH_AT, _FLAGS_AT = 0, 4, 16  # in struct seccomp_data; clone's flags are its first argument
_NAMESPACES = 0x7E02_0000  # CLONE_NEW*
_X32 = 0x4000_0000  # x86-64 has its calls a second time from there on
EPERM: Final = 1
_ENOSYS = 38

# What a worker never needs: sockets of its own, other processes' memory, mounts, namespaces, keys, kernel interfaces
# with a history of holes. (x86-64, arm64); None: there is no such call.
_CALLS: Final[dict[str, tuple[int | None, int]]] = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "execveat": (322, 281),
    "modify_ldt": (154, -1), "personality": (135, 92), "syslog": (103, 116), "vhangup": (153, 58),
}  # fmt: skip


class _Machine(NamedTuple):
    """`arch`: AUDIT_ARCH_*; `column`: in the table; `seccomp`, `clone`, `clone3`: the numbers of those."""

    arch: int
    column: int
    seccomp: int
    clone: int
    clone3: int = 435


_MACHINES = {"x86_64": _Machine(0xC000_003E, 0, 317, 56), "aarch64": _Machine(0xC000_00B7, 1, 277, 220)}


class _Line(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("lines", ctypes.POINTER(_Line)))


def restrict() -> None:
    """All threads of this process. Needs no_new_privs. Raises OSError."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(0, f"no filter is known for {platform.machine()}")
    lines = _filter(machine)
    program = _Program(len(lines), (_Line * len(lines))(*lines))
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(ctypes.c_long(machine.seccomp), _SET_FILTER, _TSYNC, ctypes.byref(program))
    if found != 0:  # a thread's number: that one could not be brought along
        code = ctypes.get_errno() if found < 0 else 0
        raise OSError(code, os.strerror(code) if code else "a thread could not be confined")


def _filter(machine: _Machine) -> list[_Line]:
    numbers = sorted(
        number for calls in _CALLS.values() if (number := calls[machine.column]) is not None and number >= 0
    )
    allow, head = len(numbers), 9  # lines from the first comparison to the one that allows; those before it
    deny, unknown = allow + 1, allow + 2
    lines = [_Line(_LOAD, 0, 0, _ARCH_AT), _Line(_JEQ, 1, 0, machine.arch), _Line(_RETURN, 0, 0, _KILL)]
    # From line `n` a jump over `head - n - 1 + x` leads to the line `x`.
    lines += [_Line(_LOAD, 0, 0, _NR_AT), _Line(_JGE, head - 5 + deny, 0, _X32)]
    lines += [_Line(_JEQ, head - 6 + unknown, 0, machine.clone3), _Line(_JEQ, 0, head - 7, machine.clone)]
    lines += [_Line(_LOAD, 0, 0, _FLAGS_AT), _Line(_JSET, head - 9 + deny, head - 9 + allow, _NAMESPACES)]
    lines += [_Line(_JEQ, deny - at - 1, 0, number) for at, number in enumerate(numbers)]
    ends = (_ALLOW, _ERRNO | EPERM, _ERRNO | _ENOSYS)
    return [*lines, *(_Line(_RETURN, 0, 0, end) for end in ends)]
