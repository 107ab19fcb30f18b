"""What is known of the repository that a manifest's models come from, and how the files that came from it are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "git:"  # begins the name of a file that was fetched: git:COMMIT/PATH

REMOTE: Final = "RemoteUnavailable"
UNKNOWN: Final = frozenset(("Fetching", "Offline", REMOTE))  # reasons with which nothing was refused
UNTRUSTED: Final = frozenset(("BadSignature", "SignersUnreadable", "UnknownSigner", "UnsignedCommit"))

Files = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking a repository. With a reason there are no files, and the message says why."""

    commit: str = ""  # 40 hex digits, or 64 where the repository is one of sha256
    files: tuple[tuple[str, bytes], ...] = ()
    signed: bool = False  # its signature was asked for, and is good
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class GitFacts:
    """`commit` is the one in effect, "" where there is none of this repository yet."""

    url: str
    ref: str  # "" = what the remote's HEAD names
    commit: str = ""
    since: float = 0.0  # seconds since the epoch: when it came into effect, or was found at the start
    signed: bool = False
    reason: str = ""  # why what the remote has is not known, or not in effect; "" = it is
    message: str = ""


def is_fetched(name: str) -> bool:
    """Whether a file of this name came from a repository."""
    return name.startswith(PREFIX)


def fetched_name(commit: str, place: str) -> str:
    """What the file at `place` in `commit` is called."""
    return f"{PREFIX}{commit}/{place}"


def of_repository(files: Iterable[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Those that came from a repository."""
    return tuple(one for one in files if is_fetched(one[0]))


def commit_of(files: Iterable[tuple[str, bytes]]) -> str:
    """The commit that the files of a manifest came from; "" where they are the host's own."""
    return next((name[len(PREFIX) :].partition("/")[0] for name, _ in files if is_fetched(name)), "")
