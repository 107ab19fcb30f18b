"""What is known of a repository of a hub, in plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubFile:
    """`size` in bytes; `sha256` None where the hub knows none: a small file outside of LFS."""

    path: str
    size: int
    sha256: str | None


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
