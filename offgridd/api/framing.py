"""HTTP framing, stricter than Hypercorn's: HTTP/1.1 only, and no request that two servers could read differently.

Hypercorn takes an upgrade to HTTP/2 without TLS, a WebSocket handshake and a request with both Content-Length and
Transfer-Encoding, and offers no setting against them.
"""

from __future__ import annotations

import re
from typing import Any

import h11
import hypercorn.protocol
import msgspec
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol

from offgridd.api.answers import error_body
from offgridd.core.errors import RequestRefused

MAX_HELD = 64 << 10  # bytes that may wait behind a request
_BARE_FEED = re.compile(rb"(?<!\r)\n")


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class StrictConnection(h11.Connection):
    """Refuses a header line that ends in a bare LF, which h11 takes; holds what comes behind a request till it is done.

    h11 says PAUSED there, and Hypercorn then reads nothing more until the answer is made: it would never learn that the
    client has left.
    """

    def next_event(self) -> Any:
        # Only here it is known where a head begins: what h11 holds back while a request is awaited is this request,
        # in however many pieces it came and whatever stood before it.
        if self.their_state is h11.IDLE:
            head = self.held.partition(b"\r\n\r\n")[0]
            if _BARE_FEED.search(head):
                raise h11.RemoteProtocolError("a header line ends in a bare LF", error_status_hint=400)
        event = super().next_event()
        return h11.NEED_DATA if event is h11.PAUSED else event

    @property
    def held(self) -> bytes:
        """What was received and belongs to no event yet."""
        return self.trailing_data[0]


class StrictH11(H11Protocol):
    """One connection."""

    connection: StrictConnection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connection = StrictConnection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        self._handling = False

    async def handle(self, event: Event) -> None:
        answering = self.connection.their_state is h11.DONE
        await super().handle(event)
        if isinstance(event, Closed):
            # Hypercorn waits for the end of its timer for idle connections, also when the client has left.
            await self.send(Updated(idle=False))
        if answering and isinstance(event, RawData) and len(self.connection.held) > MAX_HELD:
            await super().handle(Closed())
            await self.send(Closed())

    async def _handle_events(self) -> None:
        """The reader's task runs it, and the request's at its end: who is in it goes on with what came meanwhile."""
        if self._handling:
            return
        self._handling = True
        try:
            await super()._handle_events()
        except _Refused as refused:
            await self._send_error_response(refused.status)
            await self.send(Closed())
        finally:
            self._handling = False

    async def _maybe_recycle(self) -> None:
        await super()._maybe_recycle()
        if self.connection.their_state is h11.IDLE and self.connection.held:
            await self._handle_events()

    async def _send_error_response(self, status_code: int) -> None:
        """With a body like that of every other error."""
        text = {431: "its head is too long"}.get(status_code, "its head or framing is not valid")
        body = msgspec.json.encode(
            {"error": error_body(RequestRefused(status_code, "bad_request", f"cannot read the request: {text}"))}
        )
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _check_protocol(self, event: h11.Request) -> None:
        """In place of Hypercorn's, which looks for HTTP/2."""
        headers = {name: value.strip().lower() for name, value in event.headers}
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise _Refused(400)
        # An upgrade to h2c may be ignored, and some clients always ask for it; a WebSocket could not be answered.
        if headers.get(b"upgrade") == b"websocket" or event.method == b"PRI":
            raise _Refused(400)


def install() -> None:
    """Hypercorn makes its connections of this class from now on; there is no other way to say so."""
    vars(hypercorn.protocol)["H11Protocol"] = StrictH11
