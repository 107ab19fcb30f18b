"""A download on its way, for those who wait for it, and what goes wrong there as a failure of the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.hub import HubError
from offgridd.effects.transfer.pace import Stopped

if TYPE_CHECKING:
    from offgridd.effects.download import Download

log = logging.getLogger("offgridd")
_T = TypeVar("_T")
Heard = Callable[[int, int], None]  # bytes here, bytes in all; when it is over: 0, 0


class Ahead:
    """Tells of one file's progress as a part of all: `here` bytes came before it, of `size`."""

    def __init__(self, here: int, size: int, tell: Heard) -> None:
        self._here, self._size, self._tell = here, size, tell

    def __call__(self, here: int, _size: int) -> None:
        self._tell(self._here + here, self._size)


class Getting:
    """A download that is made in its own thread; it can be stopped before."""

    def __init__(self, make: Callable[[], Download]) -> None:
        self._make, self._stopped = make, False
        self._download: Download | None = None

    def run(self) -> Path:
        """Raises ActionFailed, Stopped."""
        self._download = self._make()
        if self._stopped:
            raise Stopped
        return self._download.run()

    def stop(self) -> None:
        self._stopped = True
        if self._download is not None:
            self._download.stop()


def told(work: Callable[[], _T], condition: str = "Downloaded") -> _T:
    """What `work` gives. Whatever a disk or a hub brings up is a failure of the model, not the end of the daemon."""
    try:
        return work()
    except (ActionFailed, Stopped):
        raise
    except OSError as error:
        raise refused(condition, "Unreadable", f"cannot use the store: {error.strerror or error}") from error
    except Exception as error:
        log.exception("unexpected, while a hub's file was asked for")
        raise refused(condition, "InternalError", f"cannot go on: {type(error).__name__}; it is in the log") from error


def of_hub(condition: str, error: HubError) -> ActionFailed:
    failure = error.failure
    return refused(condition, failure.reason, failure.message, not failure.passing and failure.reason != "Offline")


def refused(condition: str, reason: str, message: str, terminal: bool = False) -> ActionFailed:
    return ActionFailed(Failure(condition, reason, message, terminal))
