"""Where a file of the web lies, and which redirects are followed. Blocking: call it in a thread."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import closing
from urllib.parse import urlsplit

from offgridd.core.hub import MOST_SIZE, HubError, HubFailure, Target
from offgridd.effects.hub.content import Content, Wires
from offgridd.effects.hub.proxies import proxy_for
from offgridd.effects.hub.session import joined, seconds_to_wait

MOST_HOPS = 5
_TOTAL = re.compile(r"bytes 0-0/([0-9]{1,18})")


def find(url: str) -> Target:
    """Where the file at `url` is now, and its size; no byte of it is kept. Raises HubError."""
    for _ in range(MOST_HOPS):
        with closing(Wires()) as wires, wires.open(url, 0, 1) as content:  # a signed address may answer to GET alone
            if not 300 <= content.status < 400:
                return Target(url, _size(content), None, "", direct=False)
            to = joined(url, content.headers.get("location", ""))
        check_redirect(url, to)
        url = to
    raise HubError(HubFailure("BadAnswer", "cannot find the file: its server sends us round in a ring"))


def check_redirect(base: str, to: str) -> None:
    """Refuses to be led from the public web to what only this machine reaches, or off encryption. Raises HubError."""
    before, after = urlsplit(base), urlsplit(to)
    if before.scheme == "https" and after.scheme != "https":
        raise _unsafe("to an address that is not encrypted")
    if proxy_for(after) is not None:
        return  # it reaches what it reaches; our own network is not what is asked
    if after.hostname != before.hostname and _is_inside(after.hostname) and not _is_inside(before.hostname):
        raise _unsafe("to an address of a private network")


def _is_inside(host: str | None) -> bool:
    """Whether any address of `host` is not of the public internet; one that has none is not."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False  # connecting will say
    return any(not ipaddress.ip_address(str(address).partition("%")[0]).is_global for address in found)


def _size(content: Content) -> int:
    """Raises HubError."""
    if content.status == 206:
        match = _TOTAL.fullmatch(content.headers.get("content-range", ""))
        text = match[1] if match else ""
    elif content.status == 200:
        text = content.headers.get("content-length", "")
    else:
        passing = content.status in (408, 429) or content.status >= 500
        answer = f"its server answers {content.status}"
        raise HubError(
            HubFailure("UrlRefused", f"cannot find the file: {answer}", passing, seconds_to_wait(content.headers))
        )
    if not text.isdecimal() or len(text) > 18 or int(text) >= MOST_SIZE:
        raise HubError(HubFailure("BadAnswer", "cannot find the file: its server does not say how large it is"))
    return int(text)


def _unsafe(where: str) -> HubError:
    return HubError(HubFailure("UnsafeRedirect", f"cannot fetch the file: its server sends us {where}"))
