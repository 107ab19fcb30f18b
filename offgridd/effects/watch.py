"""Says when the manifest may have changed. Events are hints: whoever is told reads, and the content's hash decides.

watchfiles alone misses renames over the file, swapped symlinks on the way and folders that are made anew; so the
folders that hold each link are watched too, the set is made anew after each hint, and a tick catches the rest.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
from watchfiles import Change

# Its awatch can not be cancelled before its time is up, and does not say when it has begun to watch.
from watchfiles._rust_notify import RustNotify

from offgridd.effects.source import lock_of

TICK = 10.0  # seconds between looks when nothing is heard
_HOPS = 40  # symlinks followed at most
_DEBOUNCE, _STEP = 100, 50  # milliseconds: events within so many are one hint; how often the watcher's thread looks


def watch_set(path: Path) -> dict[str, tuple[int, int]]:
    """What to watch for the manifest `path`, its conf.d and its lock, with (device, inode). Raises OSError.

    That is each link's folder, the file, its folder (or the nearest above that exists) and the one above that.
    """
    found: dict[str, tuple[int, int]] = {}

    def add(place: Path) -> None:
        try:
            stat = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            return
        found[str(place)] = (stat.st_dev, stat.st_ino)

    for start in _starts(path):
        for whole, link in _steps(start):
            if link is not None:
                add(link.parent)
                continue
            folder = whole.parent
            while not folder.is_dir():
                folder = folder.parent
            for place in (folder, folder.parent, whole):
                add(place)
    return found


def concerns(path: Path) -> Callable[[str], bool]:
    """Whether a changed path can change what the manifest says; its folders hold other files, our log perhaps.

    Everything on the way counts, also what is not there now: it is what has to come back.
    """
    manifest, conf, lock = ([whole for whole, _ in _steps(start)] for start in _starts(path))
    places = {str(place) for whole in (*manifest, *conf, *lock) for place in (whole, *whole.parents)}
    folders = {str(whole) for whole in conf}
    return lambda changed: changed in places or os.path.dirname(changed) in folders


def _starts(path: Path) -> tuple[Path, Path, Path]:
    whole = Path(os.path.abspath(path))
    return whole, whole.parent / "conf.d", lock_of(whole)


def _steps(start: Path) -> Iterator[tuple[Path, Path | None]]:
    """Each path that the symlinks lead to, `start` first, with the outermost link in it; the last one has none."""
    whole = start
    for _ in range(_HOPS):
        link = next((p for p in [*reversed(whole.parents), whole] if p.is_symlink()), None)
        yield whole, link
        if link is None:
            return
        whole = Path(os.path.normpath(link.parent / os.readlink(link))) / whole.relative_to(link)


async def hints(path: Path, report: Callable[[str], None], tick: float = TICK) -> AsyncGenerator[bool, None]:
    """Yields whenever the manifest may have changed: whether a file was seen to be renamed into its place.

    `report` hears why watching does not work ("" = it does).
    """
    wait = 1.0
    while True:
        try:
            watched, concerned = watch_set(path), concerns(path)
            with RustNotify([*watched], False, False, 0, False, False) as watcher:
                report("")
                wait = 1.0
                anew = watch_set(path) != watched  # it changed while the watch was made
                yield False  # what happened before it was up made no event
                while not anew:
                    changes = await _changes(watcher, tick)
                    # What was made anew may have the old inode, but our watch of it has ended.
                    anew = any(kind != Change.modified and place in watched for kind, place in changes)
                    anew = anew or watch_set(path) != watched
                    if not changes or any(concerned(place) for _, place in changes):
                        yield _moved(path, changes)
        except (OSError, RuntimeError) as error:
            report(f"cannot watch the manifest: {error}; looking every {tick:g} s instead")
            yield False
            await anyio.sleep(min(wait, tick))
            wait *= 2


def _moved(path: Path, changes: set[tuple[int, str]]) -> bool:
    """Whether another file of the manifest's folder went when the manifest came, as in a rename.

    The times of a file tell the same, but not when it was written and renamed within one tick of the kernel's clock.
    """
    real = os.path.realpath(path)
    gone = {place for kind, place in changes if kind == Change.deleted}
    beside = any(place != real and os.path.dirname(place) == os.path.dirname(real) for place in gone)
    return beside and (Change.added, real) in changes


async def _changes(watcher: RustNotify, tick: float) -> set[tuple[int, str]]:
    """What changed next; empty when the tick is over."""
    stop = threading.Event()
    try:
        found = await anyio.to_thread.run_sync(
            watcher.watch, _DEBOUNCE, _STEP, int(tick * 1000), stop, abandon_on_cancel=True
        )
    finally:
        stop.set()  # ends the thread within a step
    return set() if isinstance(found, str) else found
