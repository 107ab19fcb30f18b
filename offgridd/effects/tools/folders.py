"""Looking through folders of other programs: bounded, and nothing of it raises."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offgridd.core.adopting import Found
from offgridd.core.hub import as_sha256, is_path

MOST_ENTRIES = 100_000  # of one tree
MOST_TEXT = 1 << 20  # bytes of a list or a settings file
_NAMED = re.compile(r"(?:sha256-)?([0-9a-f]{64})")


def ggufs(folder: Path) -> Iterator[tuple[str, Path]]:
    """The GGUF files below `folder`, by their paths there: links to files, too; links to folders are not entered."""
    count = 0
    for here, folders, names in os.walk(folder):
        folders.sort()
        count += len(names)
        if count > MOST_ENTRIES:
            return
        for name in sorted(names):
            if name.lower().endswith(".gguf"):
                path = Path(here, name)
                yield path.relative_to(folder).as_posix(), path


def subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir())[:MOST_ENTRIES]
    except OSError:
        return []


def found_at(path: Path, name: str, sha256: str | None = None) -> Found | None:
    """The file that `path` leads to; None where that is no file, or `name` no name. Its own may say its sha256."""
    if not is_path(name):
        return None
    real = os.path.realpath(path)
    try:
        about = os.stat(real)
    except OSError:
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    return Found(real, name, about.st_size, as_sha256(sha256) or named_sha256(real))


def named_sha256(path: str) -> str | None:
    """The sha256 that is a file's name, as Hugging Face's cache and Ollama have it."""
    match = _NAMED.fullmatch(os.path.basename(path))
    return match[1] if match else None


def read_text(path: Path) -> str:
    """A small file of text; "" where there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return (
                file.read(MOST_TEXT).decode("utf-8", "replace") if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""
            )
    except OSError:
        return ""


def read_map(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        found = json.loads(read_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
