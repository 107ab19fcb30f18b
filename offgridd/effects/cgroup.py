"""How often the kernel has killed for memory in our cgroup: what tells such a kill from any other SIGKILL."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
FRESH = 10.0  # seconds in which a kill that was counted must be seen to have ended a worker of ours
_MOST = 64  # of them that are remembered


class OomKills:
    """`root`: where the hierarchies are mounted; `member`: what says which group of each is ours (cgroups(7)).

    Where no group counts, as at the root of the second version, `whole` does: all kills of this machine.

    A kill of something else in the group, as of a template's helper, must not be put down to a worker that somebody
    ends much later: so `look` is to be called every few seconds.
    """

    def __init__(
        self, root: Path = ROOT, member: Path = Path("/proc/self/cgroup"), whole: Path = Path("/proc/vmstat"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._events, self._clock = _events(root, member) or whole, clock
        self._seen = self.count()
        self._fresh: deque[float] = deque(maxlen=_MOST)  # when each was counted whose victim is not known yet

    def look(self) -> None:
        now, before = self.count(), self._seen
        self._seen = now
        if now is not None and before is not None:
            self._fresh.extend([self._clock()] * min(_MOST, max(0, now - before)))
        while self._fresh and self._clock() - self._fresh[0] > FRESH:
            self._fresh.popleft()

    def another(self) -> bool:
        """Whether there was one just now: each kill has one victim."""
        self.look()
        if not self._fresh:
            return False
        self._fresh.popleft()
        return True

    def count(self) -> int | None:
        """So far, below our group too; None where nothing counts them."""
        try:
            lines = self._events.read_text().splitlines()
        except OSError:
            return None
        found = dict(line.split() for line in lines if line.count(" ") == 1)
        return int(found["oom_kill"]) if found.get("oom_kill", "").isdecimal() else None


def _events(root: Path, member: Path) -> Path | None:
    try:
        groups = member.read_text().splitlines()
    except OSError:
        return None
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            path = root / group.strip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            path = root / "memory" / group.strip("/") / "memory.oom_control"
        else:
            continue
        if path.exists():  # of the two hierarchies one has the controller
            return path
    return None
