"""What is known of a repository of a hub, in plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_SIZE = 1 << 53  # bytes of a file: what every JSON reader gets right
HUB_TROUBLE = frozenset(
    ("HubTimeout", "HubUnreachable", "HubUnavailable", "HubSlow", "RateLimited", "BadAnswer", "ContentStalled",
     "ContentUnavailable", "ContentRefused", "ContentMissing", "TooSlow", "Offline")
)  # fmt: skip  # the reasons that have to do with the network and not with what was asked
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
MOST_PATH = 1024  # characters


def as_sha256(text: object) -> str | None:
    """The digest that `text` is; it becomes a file's name, so nothing else may pass."""
    found = text.lower() if isinstance(text, str) else ""
    return found if _SHA256.fullmatch(found) else None


def is_repo(text: object) -> bool:
    """Whether it is `owner/repo`, of characters that are harmless in a path, a shell and YAML."""
    return isinstance(text, str) and _REPO.fullmatch(text) is not None


def is_path(text: object) -> bool:
    """Whether it can be a file's path in a repository."""
    return isinstance(text, str) and 0 < len(text) <= MOST_PATH and text.isprintable()


@dataclass(frozen=True, slots=True)
class HubFile:
    """`size` in bytes; `sha256` None where the hub knows none: a small file outside of LFS."""

    path: str
    size: int
    sha256: str | None

    @property
    def digest(self) -> str:
        """Its sha256, of a file that is pinned: it has one."""
        assert self.sha256 is not None
        return self.sha256


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file's bytes are now. `url` may be signed and short-lived: never stored, never logged.

    `sha256` None: nobody has told it.
    """

    url: str
    size: int
    sha256: str | None
    commit: str
    direct: bool  # at the hub itself: the token goes there


@dataclass(frozen=True, slots=True)
class RepoTree:
    """The files of `repo` (its present name, where it was renamed) at `commit`, 40 hex digits."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    gated: bool = False


@dataclass(frozen=True, slots=True)
class HubFailure:
    """Why a hub gave no answer; `passing`: trying again makes sense, in `retry_after` seconds where it said so."""

    reason: str
    message: str
    passing: bool = False
    retry_after: float | None = None


class HubError(Exception):
    """Raised by whatever talks to a hub."""

    def __init__(self, failure: HubFailure) -> None:
        super().__init__(f"{failure.reason}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Pin:
    """What a source that is fetched was found to mean. It stands until the question changes, whatever the hub does.

    Of a URL `repo` and `commit` are empty.
    """

    key: str  # the source key of the question
    repo: str
    commit: str  # 40 hex digits
    files: tuple[HubFile, ...]  # the chosen variant's, each with its sha256
    quant: str | None
    why: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)
