"""A folder of repositories: DIR/owner/name/files. What changes there is a new commit.

`.hub.json` in a repository's folder holds what the hub says of it beside its files: downloads, likes, gated, tags,
createdAt and the like, as in the answers of `/api/models`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ABOUT = ".hub.json"
LFS_LEAST = 10 << 20  # bytes from which every file is in LFS
LFS_ENDINGS = (".gguf", ".safetensors", ".bin")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's content. `oid` is git's SHA-1: of the content, or of the pointer where it is in LFS."""

    path: Path
    size: int
    sha256: str
    oid: str
    lfs: bool
    pointer_size: int
    mtime_ns: int

    @property
    def there(self) -> bool:
        """Whether its file still holds it."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


Tree = Mapping[str, Blob]


@dataclass(slots=True)
class Repo:
    """`commits` by their SHA-1, `refs` by name."""

    id: str
    about: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, Tree] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        return self.refs.get(revision) or (revision if revision in self.commits else None)

    @property
    def head(self) -> str:
        return self.refs["main"]

    def add(self, tree: Tree, ref: str = "main") -> str:
        """A commit of these files, whose name follows from them; `ref` points at it from now on."""
        content = json.dumps([self.id, sorted((path, blob.sha256) for path, blob in tree.items())])
        name = hashlib.sha1(content.encode()).hexdigest()
        self.commits[name] = dict(tree)
        self.refs[ref] = name
        return name


class Repos:
    """All repositories of a folder; looked at anew at each `find` and `all`. For any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._repos: dict[str, Repo] = {}
        self._blobs: dict[tuple[int, int, int, int], Blob] = {}  # by dev, inode, size, mtime: hashed once

    def all(self) -> list[Repo]:
        names = [f"{owner.name}/{one.name}" for owner in _folders(self._folder) for one in _folders(Path(owner.path))]
        return [found for name in sorted(names) if (found := self.find(name)) is not None]

    def find(self, repo_id: str) -> Repo | None:
        owner, _, name = repo_id.partition("/")
        folder = self._folder / owner / name
        if not name or "/" in name or owner.startswith(".") or name.startswith(".") or not folder.is_dir():
            return None
        with self._lock:
            repo = self._repos.setdefault(repo_id, Repo(repo_id))
            repo.about = _about(folder)
            repo.add({path: self._blob(file) for path, file in _files(folder)})
            return repo

    def blob(self, sha256: str) -> Blob | None:
        with self._lock:
            return next((b for b in self._blobs.values() if b.sha256 == sha256 and b.there), None)

    def _blob(self, path: Path) -> Blob:
        found = path.stat()
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._blobs:
            self._blobs[key] = _hashed(path.resolve(), found)
        return self._blobs[key]


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [e for e in entries if e.is_dir() and not e.name.startswith(".")]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ABOUT:
            yield path.relative_to(folder).as_posix(), path


def _about(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / ABOUT).read_bytes())
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def _hashed(path: Path, found: os.stat_result) -> Blob:
    """`path` is resolved: a repository of links can move to other content and still serve its old commits."""
    size = found.st_size
    whole, plain = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            whole.update(data)
            plain.update(data)
    lfs = size >= LFS_LEAST or path.suffix in LFS_ENDINGS
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{whole.hexdigest()}\nsize {size}\n".encode()
    oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest() if lfs else plain.hexdigest()
    return Blob(path, size, whole.hexdigest(), oid, lfs, len(pointer), found.st_mtime_ns)
