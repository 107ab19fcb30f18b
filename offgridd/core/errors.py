"""Errors as values, with a stable reason; the few exceptions that carry them.

Text is "cannot X: why; do Y", lower case, and names the thing. A reason is one CamelCase word that programs may match.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARDS_DIGEST = "OneDigestForShards"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an action on a model did not work.

    `condition` is the condition that it makes False; a `terminal` failure is not tried again until what was asked
    changes or somebody says `reconcile`, any other is, with growing pauses.
    """

    condition: str
    reason: str
    message: str
    terminal: bool = False


class ActionFailed(Exception):
    """Raised by an adapter; the loop turns it into an outcome. Any other exception is a bug and ends the daemon."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.reason}: {failure.message}")
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a manifest; line and column count from 1, 0 where there is none."""

    reason: str
    message: str
    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        at = f":{self.line}" if self.line else ""
        at += f":{self.column}" if self.line and self.column else ""
        return f"{self.file}{at}: {self.message}"


class ManifestError(Exception):
    """A manifest that is refused whole. `problems` is never empty; the first one gives the condition's reason."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(str(p) for p in problems))
        self.problems = problems

    @property
    def reason(self) -> str:
        return self.problems[0].reason


class RequestRefused(Exception):
    """A request that is answered with an error: what the API shows of it.

    `status` is the HTTP status, `code` the stable word in the body, `param` the field at fault and `retry_after`
    the seconds after which trying again makes sense.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after
