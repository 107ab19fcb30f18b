"""Reads the manifest and its conf.d as bytes. Knows nothing of what they mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

LIMIT = (1 << 20) + 1  # bytes of one file: one more than is accepted, so that too long is seen


@dataclass(frozen=True, slots=True)
class Texts:
    """The files' names and contents, the manifest first."""

    files: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for name, text in self.files:
            whole.update(f"{name}\0{len(text)}\0".encode() + text)
        return whole.hexdigest()


def read(path: Path) -> Texts:
    """Raises OSError when the manifest or a fragment can not be read."""
    folder = path.parent / "conf.d"
    fragments = (
        sorted(p for p in folder.iterdir() if p.name.endswith(".yaml") and p.name[0] != ".") if folder.is_dir() else []
    )
    files = []
    for one in (path, *fragments):
        with open(one, "rb") as file:
            files.append((str(one), file.read(LIMIT)))
    return Texts(tuple(files))
