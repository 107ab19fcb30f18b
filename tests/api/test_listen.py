"""Listeners that follow the manifest, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from quart import Quart
from support.rig import free_port

from offgridd.api.listen import BindError, Listeners
from offgridd.api.sockets import bind

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Served:
    """Listeners of an app whose /long goes on until `go_on` is set."""

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self.app, self.go_on, self.port = Quart("long"), anyio.Event(), free_port()
        self.listeners = Listeners(group, lambda: self.app)

        @self.app.get("/long")
        async def long() -> AsyncIterator[bytes]:
            async def parts() -> AsyncIterator[bytes]:
                yield b"first,"
                await self.go_on.wait()
                yield b"last"

            return parts()

    async def follow(self, *hosts: str) -> None:
        await self.listeners.follow(tuple(f"{host}:{self.port}" for host in hosts))

    async def answers(self, host: str) -> bool:
        try:
            async with await anyio.connect_tcp(host, self.port) as stream:
                await stream.send(GET % b"")
                return (await stream.receive()).startswith(b"HTTP/1.1 404")
        except OSError:
            return False


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            served = Served(group)
            yield served
            served.listeners.close()


@pytest.mark.parametrize("other", ["0.0.0.0", "localhost"])
async def test_an_address_may_be_widened_and_renamed_and_a_stream_on_the_old_one_ends_whole(other: str) -> None:
    async with serving() as served:
        await served.follow("127.0.0.1")
        async with await anyio.connect_tcp("127.0.0.1", served.port) as stream:
            await stream.send(GET % b"long")
            heard = await stream.receive()
            await served.follow(other)
            assert await served.answers("127.0.0.1")
            await served.follow("127.0.0.1")
            assert await served.answers("127.0.0.1")
            served.go_on.set()
            async for more in stream:
                heard += more
        assert b"first," in heard
        assert b"last" in heard


async def test_an_address_that_is_taken_by_others_leaves_the_old_one_in_place() -> None:
    async with serving() as served:
        await served.follow("127.0.0.1")
        with bind(f"127.0.0.2:{served.port}"):
            for hosts in (("0.0.0.0",), ("localhost", "0.0.0.0")):
                with pytest.raises(BindError, match=r"cannot listen on 0\.0\.0\.0:.*: Address already in use; change"):
                    await served.follow(*hosts)
                assert served.listeners.addresses == (f"127.0.0.1:{served.port}",)
                assert await served.answers("127.0.0.1")
        await served.follow("0.0.0.0")
        assert await served.answers("127.0.0.2")


async def test_two_addresses_that_exclude_each_other_are_refused() -> None:
    async with serving() as served:
        await served.follow("127.0.0.1")
        with pytest.raises(BindError):
            await served.follow("127.0.0.1", "0.0.0.0")
        assert await served.answers("127.0.0.1")
        assert not await served.answers("127.0.0.2")
