"""Reads a manifest as it stands in another commit of the Git work tree that holds it. The only door to dulwich.

Nothing is checked out and no program is run: trees and blobs are read as they are stored. Whatever in them is no plain
file is refused. The library takes a while to import: import this module where it is needed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.objects import Blob, Commit, Tree
from dulwich.objectspec import parse_commit
from dulwich.repo import Repo

from offgridd.core.locking import LOCK_FILE
from offgridd.effects.source import LIMIT, LOCK_LIMIT


class GitError(Exception):
    """It can not be read; the text says why."""


def manifest_at(path: Path, ref: str) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """The commit that `ref` names, and the files as `effects.source.read` gives them. Raises GitError."""
    whole = Path(os.path.realpath(path.parent)) / path.name
    try:
        repo = Repo.discover(str(whole.parent))
    except NotGitRepository:
        raise GitError(f"cannot compare {path}: it lies in no Git work tree") from None
    with repo:
        commit = _commit(repo, ref)
        folder = _folder(repo, commit, whole.parent.relative_to(Path(repo.path).resolve()).parts)
        name = os.fsencode(whole.name)
        if name not in folder:
            raise GitError(f"cannot find {whole.name} at {ref}: it is not in that commit")
        found = [(f"{ref}:{whole.name}", _text(repo, folder, name, LIMIT))]
        fragments = _subfolder(repo, folder, b"conf.d")
        if fragments is not None:
            names = sorted(n for n in fragments if n.endswith(b".yaml") and not n.startswith(b"."))
            found += [(f"{ref}:conf.d/{os.fsdecode(n)}", _text(repo, fragments, n, LIMIT)) for n in names]
        if (lock := LOCK_FILE.encode()) in folder:
            found.append((f"{ref}:/{LOCK_FILE}", _text(repo, folder, lock, LOCK_LIMIT)))
        return commit.id.decode(), tuple(found)


def _commit(repo: Repo, ref: str) -> Commit:
    """A branch, a tag, a branch of a remote, or a commit's id or the beginning of one."""
    for name in (ref, f"refs/remotes/{ref}"):
        try:
            return parse_commit(repo, name.encode())
        except (KeyError, ValueError):
            continue
    raise GitError(f"cannot find {ref!r}: it names no commit here; fetch it, or see git branch -a")


def _folder(repo: Repo, commit: Commit, parts: tuple[str, ...]) -> Tree:
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
        raise GitError(f"cannot read {os.fsdecode(name)}: in that commit it is no plain file; commit the file itself")
    found = repo[sha]
    assert isinstance(found, Blob)
    return found.as_raw_string()[:limit]
