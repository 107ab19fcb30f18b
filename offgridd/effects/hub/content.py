"""A file's bytes, over connections of their own that are kept from one request to the next.

The standard library's client, not the session's: that one copies each byte three times more, and the processor is what
limits a transfer on a fast line. Proxies are those of the environment, certificates the session's.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.hub.dial import dial
from offgridd.effects.hub.proxies import proxy_for
from offgridd.effects.hub.session import CONNECT, SILENCE, asked_with, clock_hint, origin, place, trust
from offgridd.effects.piped import POSSIBLE, Piped, fill, pipe

READ = 256 << 10  # bytes that are read at once: what a processor's cache holds beside the rest
_AS_IT_IS = "%/?:@!$&'()*+,;=~[]"  # of an address: it is encoded, where its server is careful
_Origin = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True)
class Content:
    """The answer to a request for a file's bytes, which are read from `pieces`; raises HubError while it does."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    pieces: Iterator[bytes | Piped]


class Wires:
    """The connections of one transfer. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[_Origin, list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._trust: ssl.SSLContext | None = None
        self._closed = False

    @contextmanager
    def open(self, url: str, start: int, end: int, token: str | None = None) -> Iterator[Content]:
        """Asks for bytes `start` to `end` of `url`, redirects not followed. What comes may be something else: look.

        Raises HubError. A connection whose answer was read whole is kept.
        """
        to = origin(url)
        wire, answer = self._ask(url, to, {**asked_with(token), "Range": f"bytes={start}-{end - 1}"})
        try:
            with _pieces(url, wire, answer, end - start) as pieces:
                yield Content(answer.status, _lower(answer), pieces)
        finally:
            whole = answer.isclosed() or answer.length == 0
            answer.close()
            self._give_back(wire, to, keep=whole and wire.sock is not None)

    def close(self) -> None:
        """Ends all of them; who reads from one gets an error at once."""
        with self._lock:
            self._closed = True
            idle, self._idle = [wire for wires in self._idle.values() for wire in wires], {}
            for wire in self._busy:
                if wire.sock is not None:
                    with contextlib.suppress(OSError):
                        wire.sock.shutdown(socket.SHUT_RDWR)
        for wire in idle:
            wire.close()

    def _ask(
        self, url: str, to: _Origin, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An idle connection may have been closed by its server meanwhile: then a new one is asked."""
        while True:
            wire, new = self._take(url, to)
            try:
                with trouble(url):
                    if new:
                        _connect(wire)
                    wire.request("GET", _target(url, wire), headers=_headers(url, wire, headers))
                    return wire, wire.getresponse()
            except BaseException as error:
                self._give_back(wire, to, keep=False)
                if new or not isinstance(error, HubError):
                    raise

    def _take(self, url: str, to: _Origin) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it is a new one, which is not open yet."""
        with self._lock:
            if self._closed:
                raise HubError(HubFailure("HubUnreachable", f"cannot reach {place(url)}: the transfer has ended", True))
            idle = self._idle.get(to)
            wire = idle.pop() if idle else None
            if wire is not None:
                self._busy.add(wire)
                return wire, False
            if to[0] == "https" and self._trust is None:
                self._trust = trust()
            wire = _wire(urlsplit(url), self._trust)
            self._busy.add(wire)
            return wire, True

    def _give_back(self, wire: http.client.HTTPConnection, to: _Origin, *, keep: bool) -> None:
        with self._lock:
            self._busy.discard(wire)
            if keep and not self._closed:
                self._idle.setdefault(to, []).append(wire)
                return
        wire.close()


def _connect(wire: http.client.HTTPConnection) -> None:
    wire._create_connection = _dialled  # type: ignore[attr-defined]
    wire.connect()  # within CONNECT seconds
    assert wire.sock is not None
    wire.sock.settimeout(SILENCE)


def _dialled(to: tuple[str, int], seconds: float, _source: object = None) -> socket.socket:
    return dial(*to, seconds)


@contextmanager
def trouble(url: str) -> Iterator[None]:
    """Turns what a connection brings up into HubError. Its own text may quote what was sent, the token with it."""
    try:
        yield
    except TimeoutError as error:
        text = f"cannot reach {place(url)}: it does not answer"
        raise HubError(HubFailure("HubTimeout", text, passing=True)) from error
    except OSError as error:
        text = f"cannot reach {place(url)}: {error.strerror or error or type(error).__name__}{clock_hint(error)}"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error
    except http.client.InvalidURL as error:
        raise HubError(HubFailure("BadAddress", f"cannot ask {place(url)}: its address is none")) from error
    except (http.client.HTTPException, ValueError) as error:
        text = f"cannot talk to {place(url)}: it does not keep to HTTP ({type(error).__name__})"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error


@contextmanager
def _pieces(
    url: str, wire: http.client.HTTPConnection, answer: http.client.HTTPResponse, most: int
) -> Iterator[Iterator[bytes | Piped]]:
    plain = POSSIBLE and type(wire.sock) is socket.socket
    if plain and answer.length is not None and READ < answer.length <= most:
        with pipe() as ends:
            yield _spliced(url, wire.sock, answer, ends)
    else:
        yield _read(url, answer)


def _read(url: str, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        with trouble(url):
            data = answer.read1(READ)
        if not data:
            break
        yield data
    if answer.length:
        raise _cut_off(url)


def _spliced(
    url: str, source: socket.socket, answer: http.client.HTTPResponse, ends: tuple[int, int]
) -> Iterator[bytes | Piped]:
    """What came with the headers was read into a buffer; the rest goes by."""
    with trouble(url):
        data = answer.read1(READ)
    yield data
    while answer.length:
        with trouble(url):
            count = fill(ends[1], source, answer.length)
        if not count:
            raise _cut_off(url)
        answer.length -= count
        yield Piped(ends[0], count)


def _cut_off(url: str) -> HubError:
    text = f"cannot reach {place(url)}: it closed the connection before the end"
    return HubError(HubFailure("HubUnreachable", text, passing=True))


def _wire(to: SplitResult, trusted: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """A connection that is not open yet: to the server, or to the proxy that the environment names for it."""
    proxy = proxy_for(to)
    first = proxy or to
    host, port = first.hostname or "", first.port
    if to.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=CONNECT)
    assert trusted is not None
    wire = http.client.HTTPSConnection(host, port or (80 if proxy else 443), timeout=CONNECT, context=trusted)
    if proxy is not None:
        wire.set_tunnel(to.hostname or "", to.port or 443, _credentials(proxy))
    return wire


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _through(url: str, wire: http.client.HTTPConnection) -> bool:
    """Whether a plain request goes to a proxy, which has to be told the whole address."""
    to = urlsplit(url)
    return to.scheme == "http" and (wire.host, wire.port) != (to.hostname, to.port or 80)


def _target(url: str, wire: http.client.HTTPConnection) -> str:
    to = urlsplit(url)
    path = quote((to.path or "/") + (f"?{to.query}" if to.query else ""), safe=_AS_IT_IS)
    return f"http://{to.netloc}{path}" if _through(url, wire) else path


def _headers(url: str, wire: http.client.HTTPConnection, headers: dict[str, str]) -> dict[str, str]:
    if not _through(url, wire):
        return headers
    proxy = proxy_for(urlsplit(url))
    return {**headers, "Host": urlsplit(url).netloc, **(_credentials(proxy) if proxy else {})}


def _lower(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}
