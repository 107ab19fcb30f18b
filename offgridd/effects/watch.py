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
STILL = 0.5  # seconds without a change after which a file written in place counts as whole
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


def concerns(manifest: Path, watched: dict[str, tuple[int, int]]) -> Callable[[object, str], bool]:
    """Whether a changed path can change what the manifest says; its folders hold other files, our log perhaps."""
    names = {manifest.name, *(Path(p).name for p in watched)}
    conf = str(manifest.parent / "conf.d")

    def concerned(_: object, path: str) -> bool:
        return Path(path).name in names or path.startswith(conf) or os.path.islink(path)

    return concerned


async def settle(path: Path, before: tuple[int, int] | None) -> tuple[int, int] | None:
    """Waits until a file that is being written in place stands still; one that was renamed into place needs no wait.

    `before` is the identity that was last read; the answer is the present one.
    """
    state = _state(path)
    while state is not None and state[:2] == before:
        await anyio.sleep(STILL)
        after = _state(path)
        if after == state:
            break
        state = after
    return state[:2] if state else None


def _state(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


async def hints(path: Path, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Yields whenever the manifest may have changed; `report` hears why watching does not work ("" = it does)."""
    wait = 1.0
    while True:
        yield None
        watched = watch_set(path)
        conf = path.parent / "conf.d"
        places = [*watched, str(conf)] if conf.is_dir() else list(watched)
        try:
            watching = awatch(*places, watch_filter=concerns(path, watched), debounce=50, step=20, recursive=False,
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
