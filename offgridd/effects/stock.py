"""What lies in the store, for the collector: looked at without following any link, and taken away one by one.

Names that are not ours are passed over, and so stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from offgridd.core.garbage import Item, Kind, Origin
from offgridd.effects.store import BLOBS, PARTS, QUARANTINE, Store
from offgridd.failpoints import failpoint

_BLOB = re.compile(r"sha256-([0-9a-f]{64})(\.json|\.json\.part)?")
_PART = re.compile(r"([0-9a-f]{64}|adopt-[0-9a-f]{16})\.(?:part|map|map\.new)")


class Stock:
    """Of the store in `folder`. `clock`: seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder, self._clock = folder, clock

    def items(self) -> list[Item]:
        """All that is there; the age of blobs is for who counts it. Blocking. Raises OSError."""
        return [*self._blobs(), *self._parts(), *self._quarantine()]

    def blobs(self) -> list[str]:
        """The sha256s of the blobs alone. Raises OSError."""
        return [match[1] for name, _ in self._look(BLOBS) if (match := _BLOB.fullmatch(name)) and not match[2]]

    def item(self, kind: Kind, name: str) -> Item | None:
        """One of them as it is now. Raises OSError."""
        look = {"partial": self._parts, "quarantine": self._quarantine}.get(kind, self._blobs)
        return next((i for i in look() if (i.kind, i.name) == (kind, name)), None)

    def discard(self, item: Item) -> bool:
        """Takes it away; False where another process uses it. Raises OSError.

        A blob goes before its note: a blob without one would be of unknown origin, and stay for ever.
        """
        match item.kind:
            case "blob":
                failpoint("gc.before-blob")
                self._unlink(BLOBS, f"sha256-{item.name}")
                failpoint("gc.before-note")
                self._forget(item.name)
            case "note":
                self._forget(item.name)
            case "quarantine":
                failpoint("gc.before-quarantine")
                self._unlink(QUARANTINE, f"sha256-{item.name}")
            case "partial":
                return self._drop_part(item.name)
        return True

    def _blobs(self) -> Iterator[Item]:
        found: dict[str, os.stat_result] = {}
        notes: dict[str, int] = {}
        for name, about in self._look(BLOBS):
            match = _BLOB.fullmatch(name)
            if match and match[2]:
                notes[match[1]] = notes.get(match[1], 0) + about.st_size
            elif match:
                found[match[1]] = about
        for sha256, about in found.items():
            note = Store.notes_of(self._folder / BLOBS / f"sha256-{sha256}")
            item = Item("blob", sha256, about.st_size, origin=_origin(note), title=_title(note))
            yield replace(item, regular=stat.S_ISREG(about.st_mode))
        yield from (Item("note", sha256, size) for sha256, size in notes.items() if sha256 not in found)

    def _parts(self) -> Iterator[Item]:
        parts: dict[str, list[os.stat_result]] = defaultdict(list)
        for name, about in self._look(PARTS):
            if match := _PART.fullmatch(name):
                parts[match[1]].append(about)
        for name, those in parts.items():
            size = sum(min(one.st_size, one.st_blocks * 512) for one in those)  # a part has holes
            age = min(self._age(one.st_mtime) for one in those)
            yield Item("partial", name, size, age, regular=all(stat.S_ISREG(one.st_mode) for one in those))

    def _quarantine(self) -> Iterator[Item]:
        for name, about in self._look(QUARANTINE):
            if (match := _BLOB.fullmatch(name)) and not match[2]:
                age = self._age(about.st_ctime)  # a rename sets it, and nobody can set it back
                yield Item("quarantine", match[1], about.st_size, age, regular=stat.S_ISREG(about.st_mode))

    def _age(self, since: float) -> float:
        return max(0.0, self._clock() - since)

    def _look(self, part: str) -> list[tuple[str, os.stat_result]]:
        found = []
        with self._opened(part) as folder:
            for name in os.listdir(folder) if folder is not None else ():
                with contextlib.suppress(FileNotFoundError):  # it was taken away this very moment
                    found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
        return sorted(found, key=lambda one: one[0])

    @contextmanager
    def _opened(self, part: str) -> Iterator[int | None]:
        """A descriptor of a folder of the store; None where there is none. A link to one is an OSError."""
        try:
            folder = os.open(self._folder / part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            yield folder
        finally:
            os.close(folder)

    def _unlink(self, part: str, *names: str) -> None:
        with self._opened(part) as folder:
            for name in names if folder is not None else ():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)

    def _forget(self, sha256: str) -> None:
        self._unlink(BLOBS, f"sha256-{sha256}.json", f"sha256-{sha256}.json.part")

    def _drop_part(self, name: str) -> bool:
        """Whoever fetches holds the part's lock, in this process or in another."""
        with self._opened(PARTS) as folder, contextlib.ExitStack() as stack:
            if folder is None:
                return True
            with contextlib.suppress(FileNotFoundError):
                part = os.open(f"{name}.part", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                stack.callback(os.close, part)
                try:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            failpoint("gc.before-part")
            self._unlink(PARTS, f"{name}.part")
            failpoint("gc.before-map")
            self._unlink(PARTS, f"{name}.map", f"{name}.map.new")
            return True


def _origin(note: Mapping[str, Any]) -> Origin:
    if note.get("adopted"):
        return "adopted"
    if note.get("kept"):
        return "kept"
    return "declared" if note.get("key") else "unknown"


def _title(note: Mapping[str, Any]) -> str:
    return str(note.get("path") or "")[:256]
