"""The hub library's HTTP session, with the bounds that it lacks: of time, of size, of where a token goes.

The library's own calls wait for ever on a silent server, and for 23 seconds on one that is down; so only its session
is used, which brings proxies, certificates and connections that are kept. Its telemetry is off, and no token of the
user's own is ever taken up.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
from huggingface_hub import constants, get_session, set_client_factory

from offgridd.core.hub import HubError, HubFailure

CONNECT = 4.0  # seconds to connect, and to the first byte of an answer
SILENCE = 15.0  # seconds in which content may stand still
MOST_JSON = 32 << 20  # bytes
MOST_CONNECTIONS = 64
_HEADERS = {"User-Agent": "offgridd", "Accept-Encoding": "identity"}


@cache
def _session() -> httpx2.Client:
    constants.HF_HUB_DISABLE_TELEMETRY = True

    def make() -> httpx2.Client:
        limits = httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS)
        return httpx2.Client(timeout=httpx2.Timeout(CONNECT), limits=limits, follow_redirects=False)

    set_client_factory(make)
    return get_session()


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
    with _trouble(url), _session().stream(method, url, headers=_with(token)) as response:
        body = bytearray()
        for data in response.iter_raw():
            body += data
            if len(body) > MOST_JSON:
                raise HubError(HubFailure("BadAnswer", "cannot read the hub's answer: it has no end"))
            if until is not None and time.monotonic() > until:
                raise HubError(HubFailure("HubTimeout", f"cannot wait for {_place(url)}: it is too slow", passing=True))
        return Reply(response.status_code, _lower(response), bytes(body), url)


@dataclass(frozen=True, slots=True)
class Content:
    """The answer to a request for a file's bytes, which are read from `pieces`; raises HubError while it does."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


@contextmanager
def open_content(url: str, start: int, end: int, token: str | None = None) -> Iterator[Content]:
    """Asks for bytes `start` to `end` of `url`, redirects not followed. What comes may be something else: look."""
    headers = {**_with(token), "Range": f"bytes={start}-{end - 1}"}
    timeout = httpx2.Timeout(CONNECT, read=SILENCE)
    with _trouble(url), _session().stream("GET", url, headers=headers, timeout=timeout) as response:
        yield Content(response.status_code, _lower(response), response.iter_raw())


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What Retry-After or RateLimit (`"api";r=0;t=55`) says, in seconds; None where nothing is said."""
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    if value:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date is not None else None
    parts = dict(part.strip().partition("=")[::2] for part in headers.get("ratelimit", "").split(";"))
    left, wait = parts.get("r", ""), parts.get("t", "")
    return float(wait[:9]) if left == "0" and wait.isdecimal() else None


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: whom a token is meant for."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _with(token: str | None) -> dict[str, str]:
    return _HEADERS | ({"Authorization": f"Bearer {token}"} if token else {})


def _lower(response: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _place(url: str) -> str:
    """Its origin: the rest may hold a signature."""
    scheme, host, port = origin(url)
    return f"{scheme}://{host}:{port}"


@contextmanager
def _trouble(url: str) -> Iterator[None]:
    """Turns the library's exceptions into HubError. Transport errors leak out of it in every kind that it has."""
    try:
        yield
    except httpx2.TimeoutException as error:
        text = f"cannot reach {_place(url)}: it does not answer ({type(error).__name__})"
        raise HubError(HubFailure("HubTimeout", text, passing=True)) from error
    except httpx2.TransportError as error:
        text = f"cannot reach {_place(url)}: {error or type(error).__name__}"
        raise HubError(HubFailure("HubUnreachable", text, passing=True)) from error
    except (httpx2.InvalidURL, httpx2.HTTPError, UnicodeError) as error:
        raise HubError(HubFailure("BadAddress", f"cannot ask {_place(url)}: {error}")) from error
