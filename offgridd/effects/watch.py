"""Says when the manifest may have changed. Events are hints: whoever is told reads, and the content's hash decides.

watchfiles alone misses renames over the file, swapped symlinks on the way and folders that are made anew; so the
folders that hold each link are watched too, the set is made anew after each hint, and a tick catches the rest.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
from watchfiles import awatch

TICK = 10.0  # seconds between looks when nothing is heard
_HOPS = 40  # symlinks followed at most


def watch_set(path: Path) -> dict[str, tuple[int, int]]:
    """What to watch for `path`, with (device, inode): each link's folder, the file, its folder and the one above."""
    found: dict[str, tuple[int, int]] = {}
    todo = [Path(os.path.abspath(path))]
    hops = 0

    def add(place: Path) -> None:
        try:
            stat = os.stat(place)
        except OSError:
            return
        found[str(place)] = (stat.st_dev, stat.st_ino)

    while todo and hops < _HOPS:
        whole = todo.pop()
        link = next((p for p in [*reversed(whole.parents), whole] if p.is_symlink()), None)
        if link is not None:
            hops += 1
            add(link.parent)
            target = Path(os.path.normpath(link.parent / os.readlink(link)))
            todo.append(target / whole.relative_to(link))
            continue
        folder = whole.parent
        while not folder.is_dir():
            folder = folder.parent
        for place in (folder, folder.parent, whole):
            add(place)
    return found


async def hints(path: Path, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Yields whenever the manifest may have changed; `report` hears why watching does not work ("" = it does)."""
    wait = 1.0
    while True:
        yield None
        watched = watch_set(path)
        conf = path.parent / "conf.d"
        places = [*watched, str(conf)] if conf.is_dir() else list(watched)
        try:
            watching = awatch(*places, watch_filter=None, debounce=50, step=20, recursive=False,
                              rust_timeout=int(TICK * 1000), yield_on_timeout=True)  # fmt: skip
            report("")
            async for _ in watching:
                yield None
                if watch_set(path) != watched or conf.is_dir() != (str(conf) in places):
                    break
            wait = 1.0
        except (OSError, RuntimeError) as error:
            report(f"cannot watch the manifest: {error}; looking every {TICK:g} s instead")
            await anyio.sleep(min(wait, TICK))
            wait *= 2
