"""Local model files: find the one a source means, check its header, hash it, remember what was hashed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import stat
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread

from offgridd.core.actions import Verify
from offgridd.core.desired import FileSource, HubSource, PackageSource, Source, UrlSource
from offgridd.core.errors import SHARDS_DIGEST, ActionFailed, Failure
from offgridd.core.observed import Identity, ModelHeader, Part, VerifiedFile
from offgridd.core.variants import all_shards
from offgridd.effects.gguf import GgufError, open_regular, read_adapter, read_model

_PIECE = 4 << 20  # bytes read at once
AT_ONCE = 2  # files verified at the same time: more only make a disk seek and take turns from the event loop


def identity_of(found: os.stat_result) -> Identity:
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Files:
    """`roots` are the folders that `file` sources may lie in; `known` maps identities to sha256s hashed before."""

    def __init__(self, roots: tuple[Path, ...], known: MutableMapping[Identity, str]) -> None:
        self._roots, self._known = tuple(r.resolve() for r in roots), known
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def verify(self, action: Verify) -> VerifiedFile:
        """The file of `action`, checked and hashed. Raises ActionFailed."""
        return await anyio.to_thread.run_sync(self._verify, action, limiter=self._limiter)

    def digest_of(self, path: Path) -> str:
        """The sha256 of a file, whatever it is. Blocking. Raises OSError."""
        with path.open("rb") as file:
            return _sha256(file.fileno())

    def learn(self, path: Path, sha256: str) -> None:
        """It was hashed while it was written."""
        self.remember(identity_of(os.stat(path)), sha256)

    def remember(self, identity: Identity, sha256: str) -> None:
        self._known[identity] = sha256

    def remembered(self, identity: Identity) -> str | None:
        """What a file of this identity was hashed to; None where that is not known."""
        return self._known.get(identity)

    def forget(self, identity: Identity) -> None:
        """It is hashed again at the next look."""
        self._known.pop(identity, None)

    async def look(self, paths: Mapping[str, Sequence[str]]) -> dict[str, tuple[Identity, ...] | None]:
        """The present identities of each model's paths; None = one is gone or no regular file."""
        return await anyio.to_thread.run_sync(
            lambda: {name: _look(those) for name, those in paths.items()}, abandon_on_cancel=True
        )

    def _verify(self, action: Verify) -> VerifiedFile:
        return self.verify_at(self._resolve(action.source), action)

    def verify_at(self, paths: Sequence[Path], action: Verify) -> VerifiedFile:
        """The files at `paths`, checked and hashed for `action`. Blocking. Raises ActionFailed."""
        path = paths[0]
        if action.sha256 is not None and len(paths) > 1:
            text = f"cannot hold the {len(paths)} shards of {path.name} against one sha256: remove sha256"
            raise ActionFailed(Failure("Verified", SHARDS_DIGEST, text, terminal=True))
        with ExitStack() as stack:
            try:
                opened: list[tuple[Path, int]] = []
                for path in paths:
                    opened.append((path, open_regular(path)))
                    stack.callback(os.close, opened[-1][1])
                return self._check(action, opened)
            except GgufError as error:
                raise ActionFailed(Failure("Verified", error.reason, error.message)) from error
            except OSError as error:
                raise ActionFailed(_unreadable(path, error)) from error

    def _check(self, action: Verify, opened: Sequence[tuple[Path, int]]) -> VerifiedFile:
        header = _header(action, [(fd, os.fstat(fd).st_size) for _, fd in opened])
        first, *shards = (self._hashed(path, fd) for path, fd in opened)
        if action.sha256 is not None and action.sha256 != first.sha256:
            text = f"cannot use {opened[0][0].name}: its sha256 is {first.sha256}, the manifest wants {action.sha256}"
            raise ActionFailed(Failure("Verified", "DigestMismatch", text))
        return VerifiedFile(first.path, first.identity, first.sha256, header, action.key, tuple(shards))

    def _hashed(self, path: Path, fd: int) -> Part:
        before = identity_of(os.fstat(fd))
        digest = self._known.get(before)
        if digest is None:
            digest = _sha256(fd)
            if identity_of(os.fstat(fd)) != before:
                text = f"cannot verify {path.name}: it changed while it was read"
                raise ActionFailed(Failure("Verified", "FileChanging", text))
            self._known[before] = digest
        return Part(str(path), before, digest)

    def _resolve(self, source: Source) -> list[Path]:
        match source:
            case PackageSource(package, file):
                return [_in_package(package, shard) for shard in all_shards(file)]
            case FileSource(path):
                return [self._allowed(shard) for shard in all_shards(path)]
            case HubSource() | UrlSource():
                raise AssertionError("what is fetched is verified in the store")

    def _allowed(self, path: str) -> Path:
        """Where it leads to. Raises ActionFailed where that is not a file under a store root."""
        real = Path(os.path.realpath(path))  # not Path.resolve, which raises where links lead in a ring
        if _is_special(real):
            text = f"cannot read {Path(path).name}: it leads to a device, a pipe or a socket; name a file"
            raise ActionFailed(Failure("Verified", "NotARegularFile", text))
        if not any(real.is_relative_to(root) for root in self._roots):
            hint = "name its folder with --store-root or in OFFGRIDD_STORE_ROOTS"
            text = f"cannot use {path}: it is not under a store root; {hint}"
            raise ActionFailed(Failure("Resolved", "PathNotAllowed", text))
        return real


def _header(action: Verify, shards: Sequence[tuple[int, int]]) -> ModelHeader:
    """Descriptors and sizes. Raises GgufError, ActionFailed."""
    if not action.adapter:
        return read_model(shards)
    if len(shards) > 1:
        text = f"cannot use it as an adapter: it is in {len(shards)} pieces; make it one file"
        raise ActionFailed(Failure("Verified", "InvalidModel", text))
    return read_adapter(*shards[0])


def _in_package(package: str, file: str) -> Path:
    """A file that the package's RECORD lists; nothing of the package is imported."""
    try:
        listed = importlib.metadata.files(package)
    except importlib.metadata.PackageNotFoundError:
        text = f"cannot find the package {package}: it is not installed in {sys.prefix}; install it there"
        raise ActionFailed(Failure("Resolved", "PackageNotInstalled", text)) from None
    except (OSError, ValueError) as error:  # its RECORD is no text, or no list of files
        text = f"cannot use the package {package}: its list of files is damaged: {error}; install it again"
        raise ActionFailed(Failure("Resolved", "PackageDamaged", text)) from None
    names = {str(f): f for f in listed or ()}
    found = names.get(file) or next((f for n, f in names.items() if n == f"{package.replace('-', '_')}/{file}"), None)
    if found is None:
        text = f"cannot find {file} in the package {package}: its list of files has no such entry"
        raise ActionFailed(Failure("Resolved", "FileNotInPackage", text))
    return Path(os.path.normpath(found.locate()))


def _is_special(path: Path) -> bool:
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _look(paths: Sequence[str]) -> tuple[Identity, ...] | None:
    try:
        found = [os.stat(path, follow_symlinks=False) for path in paths]
    except OSError:
        return None
    return tuple(map(identity_of, found)) if all(stat.S_ISREG(one.st_mode) for one in found) else None


def _unreadable(path: Path, error: OSError) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("Resolved", "FileNotFound", f"cannot find {path.name}: there is no such file")
    return Failure("Verified", "Unreadable", f"cannot read {path.name}: {error.strerror}")


def _sha256(fd: int) -> str:
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(fd, _PIECE, at):
        anyio.from_thread.check_cancelled()
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()
