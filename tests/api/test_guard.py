"""The Host of a request, over real sockets."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from quart import Quart

from offgridd.api.context import Context
from offgridd.api.guard import add_errors, add_guard
from offgridd.api.listen import bind, start
from offgridd.core.desired import Desired, ServerSpec


def own_address() -> str:
    """This machine's address towards others; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(sock.getsockname()[0])


@pytest.mark.skipif(own_address() in ("", "127.0.0.1"), reason="this machine has no address but loopback")
@pytest.mark.parametrize(("host", "status"), [(own_address(), 200), ("192.0.2.77", 403), ("evil.example", 403)])
async def test_the_machines_own_address_is_served_where_all_are_listened_on(host: str, status: int) -> None:
    desired: Any = Desired(1, server=ServerSpec(listen=("0.0.0.0:0",)))
    app = Quart("guarded")
    add_guard(app, cast("Context", SimpleNamespace(admin=False, desired=desired, closing=lambda: False)))
    add_errors(app)

    @app.get("/")
    async def hello() -> str:
        return "hello"

    sock = bind("0.0.0.0:0")
    port = sock.getsockname()[1]
    async with anyio.create_task_group() as group:
        listener = start(group, app, sock)
        async with await anyio.connect_tcp(own_address(), port) as stream:
            await stream.send(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            assert (await stream.receive()).startswith(b"HTTP/1.1 %d" % status)
        listener.close(5)
