"""Reads a manifest as it stands in another commit of the Git work tree that holds it, for `offgrid plan --against`."""

from __future__ import annotations

import os
from pathlib import Path

from dulwich.errors import NotGitRepository
from dulwich.objects import Commit
from dulwich.objectspec import parse_commit
from dulwich.repo import Repo

from offgridd.core.locking import LOCK_FILE
from offgridd.effects.git.trees import GitError, files_in

__all__ = ["GitError", "manifest_at"]


def manifest_at(path: Path, ref: str) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """The commit that `ref` names, and the files as `effects.source.read` gives them. Raises GitError."""
    whole = Path(os.path.realpath(path.parent)) / path.name
    try:
        repo = Repo.discover(str(whole.parent))
    except NotGitRepository:
        raise GitError(f"cannot compare {path}: it lies in no Git work tree") from None
    with repo:
        commit = _commit(repo, ref)
        parts = whole.parent.relative_to(Path(repo.path).resolve()).parts
        found = files_in(repo, commit, parts, whole.name)
        return commit.id.decode(), tuple((_shown(ref, name), text) for name, text in found)


def _shown(ref: str, name: str) -> str:
    return f"{ref}:/{name}" if name == LOCK_FILE else f"{ref}:{name}"  # a lock is told by the end of its path


def _commit(repo: Repo, ref: str) -> Commit:
    """A branch, a tag, a branch of a remote, or a commit's id or the beginning of one."""
    for name in (ref, f"refs/remotes/{ref}"):
        try:
            return parse_commit(repo, name.encode())
        except (KeyError, ValueError):
            continue
    raise GitError(f"cannot find {ref!r}: it names no commit here; fetch it, or see git branch -a")
