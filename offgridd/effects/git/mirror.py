"""Our copy of a repository: one ref of it, fetched with its history, and what a commit's manifest says.

Only `child` calls it, in a process whose memory and time are bounded: what a repository sends is inflated in memory.
"""

from __future__ import annotations

import base64
import errno
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dulwich.client import HTTPUnauthorized, LocalGitClient, Urllib3HttpGitClient, default_urllib3_manager
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref
from dulwich.repo import Repo

ANSWER = 10.0  # seconds for a connection, and for each piece of an answer
USER = "x-token-auth"  # beside a token some hosts want this name, and the others take any
OURS = Ref(b"refs/heads/fetched")  # what we have, which is what the remote is told
_TAGS = 8  # of tags, one on the other
_OURS_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # to write a copy, not to read a remote
_LEFT = ("objects/tmp_pack_*", "objects/incoming-*", "objects/pack/tmp*")  # by dulwich, where it is killed


class Unreachable(Exception):
    """The remote does not give what is asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Remote:
    url: str
    ref: str  # a branch or a tag, or the whole name of a ref; "" = what the remote's HEAD names
    token: str | None = None


@contextmanager
def kept(folder: Path) -> Iterator[Repo]:
    """The copy in `folder` as it is, also while another process adds to it. Raises what `Repo` raises."""
    with Repo(str(folder)) as repo:
        yield repo


@contextmanager
def opened(folder: Path) -> Iterator[Repo]:
    """The copy in `folder`, begun anew where there is none that can be opened; what a kill has left is removed."""
    for pattern in _LEFT:
        for left in folder.glob(pattern):
            left.unlink(missing_ok=True)
    try:
        repo = Repo(str(folder))
    except (NotGitRepository, OSError, ValueError, KeyError):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        repo = Repo.init_bare(str(folder), default_branch=b"fetched")
    with repo:
        yield repo


def fetch(repo: Repo, remote: Remote) -> Commit:
    """The commit that the remote's ref is at, with all that is before it. Raises Unreachable."""
    names = _names(remote.ref)
    found: list[ObjectID] = []

    def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
        found.extend(refs[name] for name in names if name in refs)
        return [sha for sha in found[:1] if sha not in repo.object_store]

    with _translated(remote.url):
        client, path = _client(remote)
        client.fetch(path, repo, determine_wants=wants, ref_prefix=names)
    if not found:
        what = (
            f"{remote.ref} in {remote.url}: it has no such branch or tag" if remote.ref else f"a commit in {remote.url}"
        )
        raise Unreachable(f"cannot find {what}; " + ("mend `ref`" if remote.ref else "push one"))
    commit = _peeled(repo, found[0])
    repo.refs[OURS] = commit.id
    return commit


def follows(repo: Repo, commit: Commit, earlier: str) -> bool:
    """Whether `earlier` is `commit` or one of those before it."""
    seen, queue = {commit.id}, deque([commit])
    while queue:
        one = queue.popleft()
        if one.id == earlier.encode():
            return True
        for sha in one.parents:
            if sha not in seen:
                seen.add(sha)
                parent = repo[sha]
                assert isinstance(parent, Commit)
                queue.append(parent)
    return False


def without(text: str, token: str | None) -> str:
    """`text` without the token, which a remote could have put in what it answers."""
    if not token:
        return text
    for secret in (token, base64.b64encode(f"{USER}:{token}".encode()).decode()):
        text = text.replace(secret, "***")
    return text


def _names(ref: str) -> list[Ref]:
    if not ref:
        return [Ref(b"HEAD")]
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    return [Ref(name.encode()) for name in names]


def _peeled(repo: Repo, sha: ObjectID) -> Commit:
    found: Any = repo[sha]
    for _ in range(_TAGS):
        if not isinstance(found, Tag):
            break
        found = repo[found.object[1]]
    if not isinstance(found, Commit):
        raise Unreachable("cannot use the ref: it leads to no commit; name a branch or the tag of a commit")
    return found


def _client(remote: Remote) -> tuple[Any, str]:
    parts = urlsplit(remote.url)
    if parts.scheme == "file":
        return LocalGitClient(), unquote(parts.path)
    # Where it is sent on to is nobody's to choose but the host's: no redirect is followed, and no token leaves.
    from urllib3 import Retry

    pool: Any = default_urllib3_manager(None, base_url=remote.url, timeout=ANSWER)
    pool.connection_pool_kw["retries"] = Retry(0)
    user = USER if remote.token else None
    return Urllib3HttpGitClient(remote.url, pool_manager=pool, username=user, password=remote.token), ""


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """What a client may raise, as Unreachable; but for its assertions, as where our copy is of another hash."""
    begin: Callable[[str], str] = lambda why: f"cannot fetch from {url}: {why}"  # noqa: E731
    try:
        yield
    except HTTPUnauthorized:
        raise Unreachable(begin("it lets us in only with another token; mend `token`")) from None
    except PermissionError as error:
        raise Unreachable(begin(f"we may not open {error.filename}; let the service's user read it")) from None
    except NotGitRepository:
        hidden = "" if url.startswith("file:") else ", or none that the token may see"
        mend = "`url`" if not hidden else "`url` or `token`"
        raise Unreachable(begin(f"there is no repository{hidden}; mend {mend}")) from None
    except KeyError as error:
        missing = error.args[0].decode("ascii", "replace") if error.args and isinstance(error.args[0], bytes) else error
        raise Unreachable(begin(f"{missing} is missing there; is it whole, and no shallow clone?")) from None
    except (GitProtocolError, HangupException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OURS_FAILS:
            raise
        cause = (
            getattr(error.__cause__ or error.__context__, "reason", None) or error
        )  # urllib3 says around it how often it was tried
        why = " ".join(str(cause).split())[:300] or type(cause).__name__
        raise Unreachable(begin(why)) from None
