"""HTTP framing, stricter than Hypercorn's: HTTP/1.1 only, and no request that two servers could read differently.

Hypercorn takes an upgrade to HTTP/2 without TLS, a WebSocket handshake and a request with both Content-Length and
Transfer-Encoding, and offers no setting against them.
"""

from __future__ import annotations

import h11
import hypercorn.protocol
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class StrictH11(H11Protocol):
    """One connection."""

    async def handle(self, event: Event) -> None:
        try:
            if isinstance(event, RawData):
                self._check_lines(event.data)
            await super().handle(event)
        except _Refused as refused:
            await self._send_error_response(refused.status)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        """In place of Hypercorn's, which looks for HTTP/2."""
        headers = {name: value.strip().lower() for name, value in event.headers}
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise _Refused(400)
        # An upgrade to h2c may be ignored, and some clients always ask for it; a WebSocket could not be answered.
        if headers.get(b"upgrade") == b"websocket" or event.method == b"PRI":
            raise _Refused(400)

    def _check_lines(self, data: bytes) -> None:
        """Refuses a header line that ends in a bare LF, as far as a new request begins with this piece."""
        if self.connection.their_state is h11.IDLE:
            head = data.partition(b"\r\n\r\n")[0]
            if head.count(b"\n") != head.count(b"\r\n"):
                raise _Refused(400)


def install() -> None:
    """Hypercorn makes its connections of this class from now on; there is no other way to say so."""
    vars(hypercorn.protocol)["H11Protocol"] = StrictH11
