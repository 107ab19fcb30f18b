"""Waits until a manifest that is being written stands still: half a YAML file is often a valid one.

What was renamed into place, or is reached by a link that was pointed elsewhere, is whole at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import anyio

from offgridd.effects.source import lock_of

STILL = 0.5  # seconds without a change after which a file written in place counts as whole
PATIENCE = 10.0  # seconds after which one that never stands still is read as it is


class _File(NamedTuple):
    real: str
    dev: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def came_whole(self, before: _File | None, *, moved: bool) -> bool:
        """A rename changes the inode after its content; whoever writes a new file in place changes both at once."""
        if before is not None and before.real != self.real:
            return True
        other = before is None or (before.dev, before.inode) != (self.dev, self.inode)
        return other and (moved or self.ctime_ns > self.mtime_ns)


class Settler:
    """Of a manifest, its conf.d and its lock; remembers what they were when they were last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = _look(path)

    async def settle(self, *, moved: bool = False) -> None:
        """Returns when they can be read; `moved`: a file was seen to be renamed into its place."""
        now, until = _look(self._path), anyio.current_time() + PATIENCE
        while anyio.current_time() < until and not self._whole(now, moved=moved):
            await anyio.sleep(STILL)
            before, now = now, _look(self._path)
            if before == now:
                break
        self._before = now

    def _whole(self, now: dict[str, _File], *, moved: bool) -> bool:
        if str(self._path) in now and self._before.keys() - now.keys():
            return False  # it may be on its way back, as where a tool writes a file anew
        changed = (name for name, file in now.items() if file != self._before.get(name))
        return all(now[name].came_whole(self._before.get(name), moved=moved) for name in changed)


def _look(path: Path) -> dict[str, _File]:
    folder = path.parent / "conf.d"
    try:
        fragments = [folder / name for name in os.listdir(folder) if name.endswith(".yaml") and name[0] != "."]
    except OSError:
        fragments = []
    found = {str(place): _stat(place) for place in (path, *fragments, lock_of(path))}
    return {name: file for name, file in found.items() if file is not None}


def _stat(path: Path) -> _File | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    real = os.path.realpath(path)
    return _File(real, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
