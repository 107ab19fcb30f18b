"""Connects within a time that holds for all of it: looking the name up, and every address that it has.

The standard library waits so long for each address, and for a name server as long as that takes. Behind a firewall that
drops what it does not like, a hub of eight addresses takes half a minute to be given up. So addresses are tried side by
side, a new one each quarter of a second, families in turn (RFC 8305, "happy eyeballs").
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

STAGGER = 0.25  # seconds between two addresses
Address = tuple[socket.AddressFamily, Any]  # and where it is, as `connect` has it


def dial(host: str, port: int, seconds: float) -> socket.socket:
    """A connected socket that blocks. Raises OSError; TimeoutError where nothing came of it in time."""
    until = time.monotonic() + seconds
    return connect_first(in_turns(_looked_up(host, port, until)), until)


def _looked_up(host: str, port: int, until: float) -> list[Address]:
    """The addresses of a name; its lookup can not be called off, so a thread does it."""
    found: list[Address] = []
    failed: list[OSError] = []

    def look() -> None:
        try:
            for family, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((family, where))
        except OSError as error:
            failed.append(error)
        except UnicodeError:
            failed.append(OSError(errno.EINVAL, "the name of the server is none"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    if failed:
        raise failed[0]
    if thread.is_alive() or not found:
        raise TimeoutError("its name is not found in time")
    return found


def in_turns(addresses: Sequence[Address]) -> list[Address]:
    """The same, one of each family after the other, in the order that the system prefers."""
    families = list(dict.fromkeys(family for family, _ in addresses))
    by_family = [[one for one in addresses if one[0] == family] for family in families]
    return [one for one in chain.from_iterable(zip_longest(*by_family)) if one is not None]


def connect_first(addresses: Sequence[Address], until: float) -> socket.socket:
    """The first of them that answers before `until` (monotonic seconds); the others are closed. Raises OSError."""
    left, open_ones = list(addresses), list[socket.socket]()
    error: OSError = TimeoutError("none of its addresses answers")
    try:
        while left or open_ones:
            if left:
                begun = _begun(left.pop(0))
                if isinstance(begun, OSError):
                    error = begun
                    continue
                open_ones.append(begun)
            now = time.monotonic()
            if now >= until:
                raise TimeoutError("none of its addresses answers in time")
            wait = min(STAGGER, until - now) if left else until - now
            for sock in _answered(open_ones, wait):
                open_ones.remove(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    sock.setblocking(True)
                    return sock
                sock.close()
                error = OSError(code, os.strerror(code))
        raise error
    finally:
        for sock in open_ones:
            sock.close()


def _answered(socks: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Those that are connected, or can not be. Not by `select`, which knows no descriptor above 1023."""
    looked = select.poll()
    by_number = {sock.fileno(): sock for sock in socks}
    for number in by_number:
        looked.register(number, select.POLLOUT)
    return [by_number[number] for number, _ in looked.poll(math.ceil(seconds * 1000))]


def _begun(address: Address) -> socket.socket | OSError:
    """A socket that connects."""
    family, where = address
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return error
    try:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
    except OSError as error:
        sock.close()
        return error
    if code in (0, errno.EINPROGRESS):
        return sock
    sock.close()
    return OSError(code, os.strerror(code))
