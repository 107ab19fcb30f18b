"""How often the kernel has killed for memory in our cgroup: what tells such a kill from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


class OomKills:
    """`root`: where the unified hierarchy is mounted; `member`: what says which group of it is ours."""

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
    ours = next((line[3:] for line in groups if line.startswith("0::")), None)
    return root / ours.strip("/") / "memory.events" if ours is not None else None
