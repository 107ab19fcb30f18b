"""One time for all of it: addresses that swallow what is sent to them, refuse it, or have no name that is found."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.limits import high_descriptors

from offgridd.effects.hub.dial import Address, connect_first, dial, in_turns

LONG = 30.0  # seconds that nobody waits


@contextmanager
def answering() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield socket.AF_INET, sock.getsockname()


@contextmanager
def swallowing() -> Iterator[Address]:
    """Its queue is full: whoever connects hears nothing."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(sock.getsockname())
        yield socket.AF_INET, sock.getsockname()


def refusing() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return socket.AF_INET, sock.getsockname()


def test_the_one_that_answers_is_found_behind_those_that_do_not() -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(swallowing()) for _ in range(5)]
        good = stack.enter_context(answering())
        unreachable = (socket.AF_INET6, ("2001:db8::1", 9))
        began = time.monotonic()
        with connect_first([*silent, refusing(), unreachable, good], began + LONG) as sock:
            assert sock.getpeername() == good[1]
            assert sock.getblocking()
        assert time.monotonic() - began < LONG / 2, "not one after the other"


def test_it_connects_with_many_files_open() -> None:
    with high_descriptors(), answering() as good, connect_first([refusing(), good], time.monotonic() + LONG) as sock:
        assert sock.fileno() > 1023
        assert sock.getpeername() == good[1]


def test_all_of_them_have_one_time() -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(swallowing()) for _ in range(8)]
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            connect_first(silent, began + 1.0)
        assert 1.0 <= time.monotonic() - began < 8.0


def test_where_all_refuse_nobody_waits() -> None:
    with pytest.raises(ConnectionRefusedError):
        connect_first([refusing(), refusing()], time.monotonic() + LONG)
    with pytest.raises(OSError, match=r"."):
        connect_first([(socket.AF_INET, ("127.0.0.1", 99999999))][:0], time.monotonic() + 0.1)


def test_a_name_that_is_not_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that is silent can not be had here without being root of a namespace."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: [over.wait(LONG)][1:])
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="name"):
        dial("hub.example", 443, 0.5)
    assert time.monotonic() - began < LONG / 2
    over.set()


def test_names_and_what_is_none() -> None:
    with answering() as (_, where):
        dial("localhost", where[1], 5.0).close()
    for name in ("no.such.host.invalid", "a" * 70 + ".example", "x..y"):
        with pytest.raises(OSError, match=r"."):
            dial(name, 80, 10.0)


def test_families_take_turns() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    given: list[Address] = [(six, 1), (six, 2), (six, 3), (four, 4)]
    assert in_turns(given) == [(six, 1), (four, 4), (six, 2), (six, 3)]
