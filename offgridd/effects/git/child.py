"""`python -m offgridd.effects.git.child`: one JSON request on stdin, one JSON answer on stdout; see effects/repository.

A process of its own, since what a repository sends is inflated in memory, and since neither of the libraries can be
stopped from outside: it ends by itself when its time is up. Errors of the host's are in the answer, too.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo

from offgridd.core.gitsource import fetched_name
from offgridd.effects.git.mirror import Remote, Unreachable, fetch, follows, opened
from offgridd.effects.git.signing import Refused, check_signer
from offgridd.effects.git.trees import GitError, files_in

MANIFEST = "offgridd.yaml"  # its name in the folder that `path` names
_MOST_PACKS = 100  # each fetch that brings something adds one
_MEMORY, _FILE = 1 << 30, 256 << 20  # bytes: of our address space, and of any file that we write


def main() -> int:
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is refused says more than our death
    signal.alarm(int(asked["seconds"]))
    folder = Path(asked["folder"])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(folder / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one that a daemon before us has left may still be at it
        json.dump(_answer(asked, folder / "mirror"), sys.stdout)
    return 0


def _answer(asked: dict[str, Any], mirror: Path) -> dict[str, Any]:
    try:
        return _mended(asked, mirror)
    except Unreachable as error:
        return {"reason": "RemoteUnavailable", "message": str(error)}
    except Refused as refused:
        return {"reason": refused.reason, "message": refused.message}
    except GitError as error:
        return {"reason": "ManifestMissing", "message": str(error)}
    except (MemoryError, OSError) as error:
        why = "it is larger than is taken" if isinstance(error, MemoryError) else error.strerror
        return {
            "reason": "RemoteUnavailable",
            "message": f"cannot keep what {asked['url']} sends: {why}; make room, or it smaller",
        }


def _mended(asked: dict[str, Any], mirror: Path) -> dict[str, Any]:
    """A copy that is broken, or is in more pieces than are read quickly, is made anew: it can be fetched again."""
    try:
        with opened(mirror) as repo:
            if asked["commit"]:
                return _read(repo, asked)
            if len(list(repo.object_store.packs)) <= _MOST_PACKS:
                return _fetch(repo, asked)
    except (Unreachable, Refused, GitError, MemoryError, OSError):
        raise
    except Exception as error:  # whatever a library says of files that are not what it wrote
        if asked["commit"]:
            raise GitError(f"cannot read commit {asked['commit'][:12]} in our copy: it is damaged") from error
    shutil.rmtree(mirror)
    with opened(mirror) as repo:
        return _fetch(repo, asked)


def _fetch(repo: Repo, asked: dict[str, Any]) -> dict[str, Any]:
    commit = fetch(repo, Remote(asked["url"], asked["ref"], asked["token"]))
    if asked["signers"]:
        check_signer(commit, Path(asked["signers"]))
    if asked["accepted"] and not asked["rewind"] and not follows(repo, commit, asked["accepted"]):
        text = (
            f"cannot take commit {commit.id.decode()[:12]}: it does not follow {asked['accepted'][:12]}, which was "
            "accepted last; if that is meant: offgrid reload --allow-rewind"
        )
        raise Refused("NotFastForward", text)
    return _files(repo, commit, asked["path"])


def _read(repo: Repo, asked: dict[str, Any]) -> dict[str, Any]:
    """A commit that was accepted before, under what is asked of it now."""
    try:
        commit = repo[ObjectID(asked["commit"].encode())]
    except KeyError:
        raise GitError(f"cannot find commit {asked['commit'][:12]} in our copy: it is gone") from None
    assert isinstance(commit, Commit)
    if asked["signers"]:
        check_signer(commit, Path(asked["signers"]))
    return _files(repo, commit, asked["path"])


def _files(repo: Repo, commit: Commit, path: str) -> dict[str, Any]:
    shown, parts = commit.id.decode(), [part for part in path.split("/") if part != "."]
    prefix = "".join(f"{part}/" for part in parts)
    found = [
        (fetched_name(shown, prefix + name), base64.b64encode(text).decode())
        for name, text in files_in(repo, commit, parts, MANIFEST)
    ]
    return {"commit": shown, "files": found}


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the libraries' own ends have nothing to add
