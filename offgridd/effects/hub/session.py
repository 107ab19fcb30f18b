"""The hub library's HTTP session, with the bounds that it lacks: of time, of size, of where a token goes.

The library's own calls wait for ever on a silent server, and for 23 seconds on one that is down; so only its session
is used, which brings proxies, certificates and connections that are kept. Its telemetry is off, and no token of the
user's own is ever taken up.
"""

from __future__ import annotations

import email.utils
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec
from huggingface_hub import constants, get_session, set_client_factory

from offgridd.core.hub import HubError, HubFailure
from offgridd.effects.hub.dial import dial
from offgridd.effects.hub.proxies import proxy_for

CONNECT = 4.0  # seconds to connect, and to the first byte of an answer
FRESH = 30.0  # seconds for which whoever has answered is taken to be there
SILENCE = 15.0  # seconds in which content may stand still
MOST_JSON = 32 << 20  # bytes
MOST_CONNECTIONS = 128
_HEADERS = {"User-Agent": "offgridd", "Accept-Encoding": "identity"}


_seen: dict[tuple[str, int], float] = {}  # when an answer came last, by host and port
_making = threading.Lock()
_made: list[httpx2.Client] = []


def _session() -> httpx2.Client:
    """Made once: the library closes the one before when its factory is set again, also one that is in use."""
    with _making:
        if not _made:
            constants.HF_HUB_DISABLE_TELEMETRY = True
            set_client_factory(_client)
            _made.append(get_session())
        return _made[0]


def _client() -> httpx2.Client:
    for name in ("httpx2", "httpcore2"):  # they log addresses, and those of content are signed
        logging.getLogger(name).setLevel(logging.WARNING)
    limits = httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS)
    timeout = httpx2.Timeout(CONNECT, pool=None)  # waiting for one of our own connections says nothing of the hub
    return httpx2.Client(timeout=timeout, limits=limits, follow_redirects=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was read whole; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def json(self) -> Any:
        """Raises HubError."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise HubError(HubFailure("BadAnswer", f"cannot read the hub's answer: {error}", passing=True)) from None


def ask(method: str, url: str, token: str | None = None, until: float | None = None) -> Reply:
    """One request, its redirects not followed, its answer of at most MOST_JSON. `until`: monotonic seconds."""
    timeout = httpx2.Timeout(CONNECT, read=_reached(url), pool=None)
    with _trouble(url), _session().stream(method, url, headers=asked_with(token), timeout=timeout) as response:
        body = bytearray()
        for data in response.iter_raw():
            body += data
            if len(body) > MOST_JSON:
                raise HubError(HubFailure("BadAnswer", "cannot read the hub's answer: it has no end"))
            if until is not None and time.monotonic() > until:
                raise HubError(HubFailure("HubSlow", f"cannot wait for {place(url)}: it is too slow", passing=True))
        _seen[_first(url)] = time.monotonic()
        return Reply(response.status_code, _lower(response), bytes(body), url)


def _reached(url: str) -> float:
    """Seconds that are left for the first byte. Raises HubError where nobody can be reached.

    The session would try each address of a name for so long as all of them have.
    """
    first, now = _first(url), time.monotonic()
    if now - _seen.get(first, -FRESH) < FRESH:
        return CONNECT
    try:
        dial(*first, CONNECT).close()
    except TimeoutError as error:
        text = f"cannot reach {place(url)}: it does not answer"
        raise HubError(HubFailure("HubTimeout", text, passing=True)) from error
    except OSError as error:
        text = f"cannot reach {place(url)}: {error.strerror or error}"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error
    return max(1.0, CONNECT - (time.monotonic() - now))


def _first(url: str) -> tuple[str, int]:
    """Host and port of who is asked first: the proxy, where there is one."""
    proxy = proxy_for(urlsplit(url))
    scheme, host, port = origin(proxy.geturl() if proxy else url)
    return host, port or (443 if scheme == "https" else 80)


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What Retry-After or RateLimit (`"api";r=0;t=55`) says, in seconds; None where nothing is said."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    if value:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    parts = dict(part.strip().partition("=")[::2] for part in headers.get("ratelimit", "").split(";"))
    left, wait = parts.get("r", ""), parts.get("t", "")
    return float(wait[:9]) if left == "0" and wait.isdecimal() else None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: whom a token is meant for. Raises HubError where the address is none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        raise HubError(HubFailure("BadAnswer", "cannot go on: the hub names an address that is none", True)) from None


def joined(base: str, to: str) -> str:
    """Where `to` leads from `base`. Raises HubError where that is no address."""
    try:
        found = urljoin(base, to)
    except ValueError:
        raise HubError(HubFailure("BadAnswer", "cannot go on: the hub names an address that is none", True)) from None
    origin(found)
    return found


def asked_with(token: str | None) -> dict[str, str]:
    """The headers of a request."""
    return _HEADERS | ({"Authorization": f"Bearer {token}"} if token else {})


def trust() -> ssl.SSLContext:
    """Which certificates the session accepts; SSL_CERT_FILE and SSL_CERT_DIR name others. Some 20 ms."""
    return httpx2.create_ssl_context()


def clock_hint(error: BaseException | None) -> str:
    """What to do about a certificate that holds at another time; "" for other errors."""
    while error is not None:
        # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED of OpenSSL's x509_vfy.h
        if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in (9, 10):
            return time.strftime("; check the clock of this machine, which says %Y-%m-%d", time.gmtime())
        error = error.__cause__ or error.__context__
    return ""


def _lower(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def place(url: str) -> str:
    """Its origin: the rest may hold a signature."""
    scheme, host, port = origin(url)
    return f"{scheme}://{host}:{port}"


@contextmanager
def _trouble(url: str) -> Iterator[None]:
    """Turns the library's exceptions into HubError. Transport errors leak out of it in every kind that it has."""
    try:
        yield
    except httpx2.TimeoutException as error:
        text = f"cannot reach {place(url)}: it does not answer ({type(error).__name__})"
        raise HubError(HubFailure("HubTimeout", text, passing=True)) from error
    except httpx2.ProtocolError as error:  # its text may quote what was sent, the token with it
        text = f"cannot talk to {place(url)}: it does not keep to HTTP ({type(error).__name__})"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error
    except httpx2.TransportError as error:
        text = f"cannot reach {place(url)}: {error or type(error).__name__}{clock_hint(error)}"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error
    except (httpx2.InvalidURL, httpx2.HTTPError, UnicodeError) as error:
        text = f"cannot ask {place(url)}: {type(error).__name__}"
        raise HubError(HubFailure("BadAddress", text)) from error
