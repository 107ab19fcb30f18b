"""How often the kernel has killed for memory in our cgroup: what tells such a kill from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class OomKills:
    """`root`: where the hierarchies are mounted; `member`: what says which group of each is ours (cgroups(7))."""

    def __init__(self, root: Path = ROOT, member: Path = Path("/proc/self/cgroup")) -> None:
        self._events = _events(root, member)
        self._seen = self.count()

    def another(self) -> bool:
        """Whether there was one since this was asked last: each kill has one victim."""
        now, before = self.count(), self._seen
        if now is None or before is None or now <= before:
            self._seen = now
            return False
        self._seen = before + 1
        return True

    def count(self) -> int | None:
        """So far, below our group too; None where nothing counts them."""
        if self._events is None:
            return None
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
