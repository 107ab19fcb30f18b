"""The store of blobs: `blobs/sha256-HEX`, each with a small file that says where it came from.

Nothing else writes there. A blob appears whole, by rename, once its bytes were synced and their sha256 is its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offgridd.effects.transfer.part import Part
from offgridd.failpoints import failpoint

_NAME = re.compile(r"sha256-[0-9a-f]{64}")
_PARTS, _BLOBS, _QUARANTINE = "partial", "blobs", "quarantine"


class Store:
    """In `folder`, which is made when something is put there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def blob(self, sha256: str) -> Path:
        """Where it is, or would be."""
        return self._folder / _BLOBS / f"sha256-{sha256}"

    def has(self, sha256: str, size: int) -> bool:
        """Whether a blob of this name and size is there; its content is for `verify`."""
        try:
            return self.blob(sha256).stat().st_size == size
        except OSError:
            return False

    def free(self) -> int:
        """Bytes that its file system has left for us."""
        there = next(p for p in (self._folder, *self._folder.parents) if p.exists())
        return shutil.disk_usage(there).free

    def part(self, sha256: str, size: int) -> Part:
        """The part of a blob to come. Raises PartInUse, OSError."""
        folder = self._folder / _PARTS
        folder.mkdir(parents=True, exist_ok=True)
        return Part(folder, sha256, size)

    def total(self) -> int:
        """Bytes of all blobs."""
        return sum(path.stat().st_size for path in self._blobs())

    def notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The sha256 of each blob and what was noted of where it came from."""
        for path in self._blobs():
            try:
                found = json.loads(path.with_name(path.name + ".json").read_bytes())
            except (OSError, ValueError, RecursionError):
                continue
            if isinstance(found, dict):
                yield path.name.removeprefix("sha256-"), found

    def remove(self, sha256: str) -> int:
        """Takes a blob and its note away; gives the bytes that are free for it. Raises OSError."""
        path = self.blob(sha256)
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".json").unlink(missing_ok=True)
        return size

    def put_away(self, sha256: str) -> None:
        """A blob whose content is not what its name says. Raises OSError."""
        folder = self._folder / _QUARANTINE
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(self.blob(sha256), folder / f"sha256-{sha256}")

    def _blobs(self) -> list[Path]:
        folder = self._folder / _BLOBS
        return [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []

    def tidy(self, sha256: str) -> None:
        """Takes away what a finished blob left behind among the parts."""
        for ending in (".map", ".map.new"):
            (self._folder / _PARTS / f"{sha256}{ending}").unlink(missing_ok=True)

    def keep(self, part: Part, sha256: str, origin: dict[str, Any]) -> Path:
        """Makes a whole part, whose sha256 that is, a blob; `origin` is what is noted of it. Raises OSError."""
        path = self.blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.fsync(part.fd)
        failpoint("store.before-note")
        self._note(path, origin)
        failpoint("store.before-rename")
        os.replace(part.path, path)
        failpoint("store.renamed")
        _sync_folder(path.parent)
        _sync_folder(part.path.parent)
        failpoint("store.before-tidy")
        part.forget_map()
        return path

    def quarantine(self, part: Part, sha256: str) -> Path:
        """Puts a whole part away whose content is not what its name says. One copy is kept. Raises OSError."""
        folder = self._folder / _QUARANTINE
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"sha256-{sha256}"
        os.replace(part.path, path)
        part.forget_map()
        return path

    def _note(self, path: Path, origin: dict[str, Any]) -> None:
        note, new = path.with_name(path.name + ".json"), path.with_name(path.name + ".json.new")
        with open(new, "w", encoding="utf-8") as file:
            json.dump(origin, file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, note)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
