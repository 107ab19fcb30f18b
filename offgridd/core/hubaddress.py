"""The address of a repository or of a file in one, as a browser shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from offgridd.core.hub import is_path, is_repo

MAIN = "main"
_FILE, _TREE = ("blob", "resolve", "raw"), "tree"


@dataclass(frozen=True, slots=True)
class Address:
    """`revision` None: what the repository has now."""

    repo: str
    revision: str | None = None
    file: str | None = None


def is_address(text: str) -> bool:
    return text.lower().startswith(("https://", "http://"))


def parse_address(text: str, hubs: Iterable[str]) -> Address | str:
    """What an address at one of `hubs` means, or why it means nothing: `it ...`.

    What is behind ? or # is for browsers. Revision and file are as they are written: whoever asks a hub checks them.
    """
    found = _path(text, hubs)
    if found is None:
        return f"it is no address of {' or '.join(dict.fromkeys(hubs))}; a file of another server needs its sha256"
    parts = [*map(unquote, found.strip("/").split("/"))]
    repo, kind, revision, path = "/".join(parts[:2]), *[*parts[2:4], "", ""][:2], "/".join(parts[4:])
    if not is_repo(repo):
        return "it names no repository; write HUB/owner/repo"
    at = None if revision == MAIN else revision
    if not kind:
        return Address(repo)
    if kind == _TREE and revision and not path:
        return Address(repo, at)
    if kind in _FILE and revision and is_path(path):
        return Address(repo, at, path)
    return "it is the address neither of a repository nor of one of its files"


def _path(text: str, hubs: Iterable[str]) -> str | None:
    """What follows the hub; None where the address is of none of them."""
    if not text.isprintable():  # urlsplit would leave some of that out
        return None
    try:
        given = urlsplit(text)
        for hub in hubs:
            base = urlsplit(hub)
            if _origin(given) == _origin(base) and given.path.startswith(base.path.rstrip("/") + "/"):
                return given.path[len(base.path.rstrip("/")) :]
    except ValueError:  # a port that is none, a bracket that is not closed
        pass
    return None


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None, str | None]:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.username
