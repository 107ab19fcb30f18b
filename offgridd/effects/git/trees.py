"""A manifest's files as a commit has them. Trees and blobs are read as they are stored; only plain files are taken."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from offgridd.core.locking import LOCK_FILE
from offgridd.effects.source import LIMIT, LOCK_LIMIT

MOST_NAME = 255  # bytes; no file system has longer ones, but a tree may
MOST_FILES, MOST_BYTES = 1001, 64 << 20  # of one manifest, with its fragments and its lock


class GitError(Exception):
    """It can not be read; the text says why."""


def files_in(repo: Repo, commit: Commit, parts: Sequence[str], name: str) -> Iterator[tuple[str, bytes]]:
    """The manifest `name` in the folder `parts`, then `conf.d/NAME` in byte order, then the lock, if any.

    Raises GitError.
    """
    folder, size = _folder(repo, commit, parts), 0
    if os.fsencode(name) not in folder:
        raise GitError(f"cannot find {'/'.join((*parts, name))}: it is not in that commit")
    for count, (shown, tree, entry, limit) in enumerate(_wanted(repo, folder, name)):
        text = _text(repo, tree, entry, limit)
        size += len(text)
        if count > MOST_FILES or size > MOST_BYTES:
            raise GitError(f"cannot read {'/'.join((*parts, name))}: with its conf.d it is too large; make it smaller")
        yield shown, text


def _wanted(repo: Repo, folder: Tree, name: str) -> Iterator[tuple[str, Tree, bytes, int]]:
    yield name, folder, os.fsencode(name), LIMIT
    fragments = _subfolder(repo, folder, b"conf.d")
    if fragments is not None:
        for one in sorted(n for n in fragments if n.endswith(b".yaml") and not n.startswith(b".")):
            if len(one) > MOST_NAME or b"/" in one:
                raise GitError("cannot read conf.d: a name in it is none of a file; see git fsck")
            yield f"conf.d/{one.decode('utf-8', 'replace')}", fragments, one, LIMIT
    if LOCK_FILE.encode() in folder:
        yield LOCK_FILE, folder, LOCK_FILE.encode(), LOCK_LIMIT


def _folder(repo: Repo, commit: Commit, parts: Sequence[str]) -> Tree:
    found = repo[commit.tree]
    assert isinstance(found, Tree)
    for part in parts:
        below = _subfolder(repo, found, os.fsencode(part))
        if below is None:
            raise GitError(f"cannot find {'/'.join(parts)} in {commit.id.decode()[:12]}: there is no such folder")
        found = below
    return found


def _subfolder(repo: Repo, folder: Tree, name: bytes) -> Tree | None:
    if name not in folder:
        return None
    mode, sha = folder[name]
    if not stat.S_ISDIR(mode):
        raise GitError(f"cannot read {os.fsdecode(name)}: it is no folder in that commit")
    found = repo[sha]
    assert isinstance(found, Tree)
    return found


def _text(repo: Repo, folder: Tree, name: bytes, limit: int) -> bytes:
    mode, sha = folder[name]
    if not stat.S_ISREG(mode):
        shown = name.decode("utf-8", "replace")
        raise GitError(f"cannot read {shown}: in that commit it is no plain file; commit the file itself")
    found = repo[sha]
    assert isinstance(found, Blob)
    return found.as_raw_string()[:limit]
