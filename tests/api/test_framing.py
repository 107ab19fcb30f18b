"""The pieces in which a request comes over a socket say nothing about it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from quart import Quart, request

from offgridd.api.listen import bind, start

BODY = b'{\n  "a": 1,\n\n  "b": 2\n}\n'
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LAST = POST.replace(b"localhost", b"localhost\r\nConnection: close")
BARE = LAST.replace(b"localhost\r\n", b"localhost\n")
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
    len(BODY),
    BODY,
)


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    app = Quart("echo")

    @app.post("/echo")
    async def echo() -> bytes:
        data = await request.get_data()
        assert isinstance(data, bytes)
        return data

    sock = bind("127.0.0.1:0")
    number = int(sock.getsockname()[1])
    async with anyio.create_task_group() as group:
        listener = start(group, app, sock)
        yield number
        listener.close(5)


async def said(pieces: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The status and the body of each answer; each piece is read before the next one is sent."""
    raw, ended = b"", False
    async with serving() as port, await anyio.connect_tcp("127.0.0.1", port) as stream:

        async def hear() -> None:
            nonlocal raw, ended
            async for heard in stream:
                raw += heard
            ended = True

        async with anyio.create_task_group() as group:
            group.start_soon(hear)
            for piece in pieces:
                for _ in range(4):  # the server runs in this loop: it reads in the next turn
                    await anyio.lowlevel.checkpoint()
                if ended:
                    break
                await stream.send(piece)
    answers = [one.partition(b"\r\n\r\n") for one in raw.split(b"HTTP/1.1 ")[1:]]
    return [(head[:3], body) for head, _, body in answers]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
async def test_good_requests_are_served_however_they_are_cut(size: int) -> None:
    pipelined = POST + CHUNKED + POST + LAST
    assert await said(cut(pipelined, size)) == [(b"200", BODY)] * 4


async def test_the_end_of_a_head_may_come_with_the_body() -> None:
    at = LAST.index(b"\r\n\r\n")
    for end in range(at, at + 6):
        assert await said([LAST[:end], LAST[end:]]) == [(b"200", BODY)]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("before", [b"", POST, CHUNKED], ids=["alone", "after a body", "after chunks"])
async def test_a_bare_line_feed_is_refused_however_it_is_cut(before: bytes, size: int) -> None:
    answers = await said(cut(before + BARE, size))
    status, body = answers[-1]
    assert status == b"400"
    assert json.loads(body)["error"]["code"] == "bad_request"
    assert [status for status, _ in answers[:-1]] == [b"200"] * bool(before)


async def test_a_client_that_leaves_after_its_answer_is_let_go_at_once() -> None:
    """Not when its connection has been idle for long: else many short ones would use up the descriptors."""
    async with serving() as port, await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(POST)
        while not (await stream.receive()).endswith(BODY):
            pass
        await stream.send_eof()
        with anyio.fail_after(2), pytest.raises(anyio.EndOfStream):
            await stream.receive()
