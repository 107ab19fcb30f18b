"""The store of blobs: `blobs/sha256-HEX`, each with a small file that says where it came from.

Nothing else writes there. A blob appears whole, by rename, once its bytes were synced and their sha256 is its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from offgridd.core.hub import HubFile, Pin, as_sha256
from offgridd.effects.durable import replace_file, sync_folder
from offgridd.effects.transfer.part import Part
from offgridd.failpoints import failpoint

_NAME = re.compile(r"sha256-[0-9a-f]{64}")
PARTS, BLOBS, QUARANTINE = "partial", "blobs", "quarantine"  # its folders


class Store:
    """In `folder`, which is made when something is put there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def blob(self, sha256: str) -> Path:
        """Where it is, or would be. Raises ValueError for what is no sha256."""
        return self._folder / BLOBS / f"sha256-{_digest(sha256)}"

    def has(self, sha256: str, size: int) -> bool:
        """Whether a blob of this name and size is there; its content is for `verify`."""
        try:
            return self.blob(sha256).stat().st_size == size
        except OSError:
            return False

    def size_of(self, sha256: str) -> int | None:
        """Bytes of a blob; None where there is none."""
        try:
            return self.blob(sha256).stat().st_size
        except OSError:
            return None

    def free(self) -> int:
        """Bytes that its file system has left for us."""
        there = next(p for p in (self._folder, *self._folder.parents) if p.exists())
        return shutil.disk_usage(there).free

    def part(self, sha256: str, size: int) -> Part:
        """The part of a blob to come. Raises PartInUse, OSError."""
        folder = self._folder / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        return Part(folder, _digest(sha256), size)

    def total(self) -> int:
        """Bytes of all blobs."""
        return sum(_size(path) for path in self._blobs())

    def notes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The sha256 of each blob and what was noted of where it came from."""
        for path in self._blobs():
            if found := self.notes_of(path):
                yield path.name.removeprefix("sha256-"), found

    def pinned(self, key: str) -> Pin | None:
        """The pin that a blob was fetched for, where the state was lost and no hub can be asked."""
        return next((replace(pin, key=key) for pin, note in self.pins() if key in note.get("keys", ())), None)

    def pins(self) -> Iterator[tuple[Pin, dict[str, Any]]]:
        """What the blobs that are here were pinned as, each with a note of one of its blobs."""
        seen: set[tuple[str, ...]] = set()
        for _, note in self.notes():
            try:
                files = tuple(HubFile(str(f["path"]), int(f["size"]), _digest(f["sha256"])) for f in note["files"])
                quant = str(note["quant"]) if note["quant"] else None
                pin = Pin(str(note["key"]), str(note["repo"]), str(note["commit"]), files, quant, str(note["why"]))
            except (KeyError, ValueError, TypeError):
                continue
            asked = (pin.key, *(str(f.sha256) for f in files))
            if files and asked not in seen and all(self.has(str(f.sha256), f.size) for f in files):
                seen.add(asked)
                yield pin, note

    def note(self, sha256: str, origin: dict[str, Any]) -> None:
        """Notes beside a blob what it is; the questions that it answered before stay. Raises OSError."""
        path = self.blob(sha256)
        before = dict(self.notes_of(path))
        keys = [*dict.fromkeys([*before.get("keys", []), origin["key"]])]
        after = {**before, **origin, "keys": keys, "fetched": before.get("fetched", origin.get("fetched"))}
        if after != before:
            self._note(path, after)

    def mark_kept(self, sha256: str, name: str) -> None:
        """A blob is kept for itself, as `name`. Raises OSError."""
        path = self.blob(sha256)
        if (found := self.notes_of(path)).get("kept") != name:
            self._note(path, found | {"kept": name})

    def forget_kept(self, sha256: str) -> None:
        """A blob that stays is kept for itself no more. Raises OSError."""
        path = self.blob(sha256)
        found = self.notes_of(path)
        after = {key: value for key, value in found.items() if key not in ("kept", "adopted")}
        if after != found:
            self._note(path, after)

    @staticmethod
    def notes_of(path: Path) -> dict[str, Any]:
        """What stands beside a blob; empty where nothing can be read."""
        try:
            found = json.loads(path.with_name(path.name + ".json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def remove(self, sha256: str) -> int:
        """Takes a blob and its note away; gives the bytes that are free for it. Raises OSError."""
        path = self.blob(sha256)
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".json").unlink(missing_ok=True)
        return size

    def put_away(self, sha256: str) -> None:
        """A blob whose content is not what its name says. Raises OSError."""
        folder = self._folder / QUARANTINE
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(self.blob(sha256), folder / f"sha256-{sha256}")

    def _blobs(self) -> list[Path]:
        folder = self._folder / BLOBS
        return [p for p in folder.iterdir() if _NAME.fullmatch(p.name)] if folder.is_dir() else []

    def tidy(self, sha256: str) -> None:
        """Takes away what a finished blob left behind among the parts."""
        for ending in (".map", ".map.new"):
            (self._folder / PARTS / f"{sha256}{ending}").unlink(missing_ok=True)

    def keep(self, part: Part, sha256: str, origin: dict[str, Any]) -> Path:
        """Makes a whole part, whose sha256 that is, a blob; `origin` is what is noted of it. Raises OSError."""
        path = self.blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.fsync(part.fd)
        failpoint("store.before-note")
        self.note(sha256, origin)
        failpoint("store.before-rename")
        os.replace(part.path, path)
        failpoint("store.renamed")
        sync_folder(path.parent)
        sync_folder(part.path.parent)
        failpoint("store.before-tidy")
        part.forget_map()
        return path

    def stage(self, name: str) -> Path:
        """Where a file is made that is not known yet; what is left there has no owner. Raises OSError."""
        folder = self._folder / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.part"

    def place(self, staged: Path, sha256: str, origin: dict[str, Any]) -> Path:
        """Makes a staged file, synced and of that sha256, a blob; a part of it goes. Raises OSError."""
        path = self.blob(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._note(path, {"keys": [origin["key"]], **origin})
        failpoint("adopt.before-rename")
        os.replace(staged, path)
        failpoint("adopt.renamed")
        sync_folder(path.parent)
        (self._folder / PARTS / f"{sha256}.part").unlink(missing_ok=True)
        self.tidy(sha256)
        return path

    def quarantine(self, part: Part, sha256: str) -> Path:
        """Puts a whole part away whose content is not what its name says. One copy is kept. Raises OSError."""
        folder = self._folder / QUARANTINE
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"sha256-{sha256}"
        os.replace(part.path, path)
        part.forget_map()
        return path

    def _note(self, path: Path, origin: dict[str, Any]) -> None:
        replace_file(path.with_name(path.name + ".json"), json.dumps(origin, sort_keys=True).encode())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it was taken away


def _digest(text: str) -> str:
    """It becomes a file's name."""
    if as_sha256(text) != text:
        raise ValueError("this is no sha256")
    return text
