"""`python -m offgridd.effects.git.child`: one JSON request on stdin, one JSON answer on stdout; see effects/repository.

A process of its own, since what a repository sends is inflated in memory, and since neither of the libraries can be
stopped from outside: it ends by itself when its time is up. Errors of the host's are in the answer, too.
"""

from __future__ import annotations

import base64
import ctypes
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
from offgridd.effects.git.mirror import Remote, Unreachable, fetch, follows, kept, opened, without
from offgridd.effects.git.signing import Refused, check_signer
from offgridd.effects.git.trees import GitError, files_in

MANIFEST = "offgridd.yaml"  # its name in the folder that `path` names
_MOST_PACKS = 100  # each fetch that brings something adds one
_MEMORY, _FILE = 1 << 30, 256 << 20  # bytes: of our address space, and of any file that we write
_MOST_BYTES = 2 * _FILE  # of all packs, which are mapped into that space
_KNOWN = (Unreachable, Refused, GitError, MemoryError, OSError)


def main() -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the next daemon waits for nothing of ours
    for meant_for_the_daemon in (signal.SIGTERM, signal.SIGINT):
        signal.signal(meant_for_the_daemon, signal.SIG_IGN)
    asked = json.load(sys.stdin)
    _limit(resource.RLIMIT_CORE, 0)  # there may be a token in it
    _limit(resource.RLIMIT_AS, _MEMORY)
    _limit(resource.RLIMIT_FSIZE, _FILE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is refused says more than our death
    signal.alarm(int(asked["seconds"]))
    json.dump(_answer(asked, Path(asked["folder"])), sys.stdout)
    return 0


def _limit(kind: int, most: int) -> None:
    """Where the host allows less, it stays so."""
    hard = resource.getrlimit(kind)[1]
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (least, least))


def _answer(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    try:
        if asked["commit"]:  # it waits for nobody, so that an edit is acted on while a remote hangs
            return _read(folder / "mirror", asked)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one that a daemon before us has left may still be at it
            return _mended(asked, folder / "mirror")
    except Unreachable as error:
        return {"reason": "RemoteUnavailable", "message": without(str(error), asked["token"])}
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
    """A copy that is broken, or is in more pieces than are read quickly, is made anew: it can be fetched again.

    The one before stays until that is done: a remote that has nothing good any more takes nothing from us.
    """
    try:
        with opened(mirror) as repo:
            if not _is_large(mirror):
                return _fetch(repo, asked)
    except _KNOWN:
        raise
    except Exception:  # whatever a library says of files that are not what it wrote
        pass
    fresh = mirror.with_name("fresh")
    try:
        return _anew(fresh, mirror, asked)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _anew(fresh: Path, mirror: Path, asked: dict[str, Any]) -> dict[str, Any]:
    shutil.rmtree(fresh, ignore_errors=True)  # a kill may have left it
    try:
        with opened(fresh) as repo:
            found = _fetch(repo, asked)
    except _KNOWN:
        raise
    except Exception as error:
        what = "an object is missing" if isinstance(error, KeyError) else "it is damaged"
        raise Unreachable(f"cannot use what {asked['url']} sends: {what}; see git fsck there") from error
    shutil.rmtree(mirror)
    fresh.rename(mirror)
    return found


def _is_large(mirror: Path) -> bool:
    packs = [one.stat().st_size for one in mirror.glob("objects/pack/*.pack")]
    return len(packs) > _MOST_PACKS or sum(packs) > _MOST_BYTES


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


def _read(mirror: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """A commit that was accepted before, under what is asked of it now."""
    shown = asked["commit"][:12]
    try:
        with kept(mirror) as repo:
            commit = repo[ObjectID(asked["commit"].encode())]
            assert isinstance(commit, Commit)
            if asked["signers"]:
                check_signer(commit, Path(asked["signers"]))
            return _files(repo, commit, asked["path"])
    except _KNOWN:
        raise
    except KeyError:
        raise GitError(f"cannot find commit {shown} in our copy: it is gone") from None
    except Exception as error:  # whatever a library says of files that are not what it wrote
        raise GitError(f"cannot read commit {shown} in our copy: it is damaged") from error


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
