"""Where a model's file may lie, what may lie there, and when it is hashed. Real files and installed packages."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from support import tinymodel
from support.lora import BASE, lora_of

from offgridd.core.actions import Verify
from offgridd.core.desired import FileSource, Source
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.observed import Identity
from offgridd.effects.files import Files, identity_of

BYTES = tinymodel.model()
SHA256 = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "m.gguf").write_bytes(BYTES)
    return root


def asked(source: Source | Path, sha256: str | None = None) -> Verify:
    return Verify("m", FileSource(str(source)) if isinstance(source, Path) else source, sha256, "key")


async def refused(files: Files, source: Source | Path, sha256: str | None = None) -> Failure:
    with anyio.fail_after(2), pytest.raises(ActionFailed) as caught:
        await files.verify(asked(source, sha256))
    return caught.value.failure


async def test_a_sound_file_is_described_and_hashed(root: Path) -> None:
    known: dict[Identity, str] = {}
    found = await Files((root,), known).verify(asked(root / "m.gguf", SHA256))
    assert (found.path, found.sha256, found.source_key) == (str(root / "m.gguf"), SHA256, "key")
    assert found.header.name == "tiny-control"
    assert known == {found.identity: SHA256} == {identity_of(os.stat(found.path)): SHA256}


def outside(root: Path) -> Path:
    other = root.parent / "other"
    other.mkdir()
    (other / "m.gguf").write_bytes(BYTES)
    return other


WAYS_OUT: dict[str, Callable[[Path], Path]] = {
    "elsewhere": lambda root: outside(root) / "m.gguf",
    "by dots": lambda root: root / ".." / outside(root).name / "m.gguf",
    "by a link of a folder": lambda root: _linked(root / "in", outside(root)) / "m.gguf",
    "beside a root of like name": lambda root: root.with_name("root-of-others") / "m.gguf",
    "ring of links": lambda root: _linked(root.parent / "ring", root.parent / "ring") / "m.gguf",
}


def _linked(link: Path, to: Path) -> Path:
    link.symlink_to(to)
    return link


@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT)
async def test_no_path_leads_out_of_the_roots(way: Callable[[Path], Path], root: Path) -> None:
    failure = await refused(Files((root,), {}), way(root))
    assert (failure.condition, failure.reason) == ("Resolved", "PathNotAllowed")
    assert "OFFGRIDD_STORE_ROOTS" in failure.message


async def test_a_ring_of_links_inside_of_a_root_is_a_failure_like_others(root: Path) -> None:
    failure = await refused(Files((root,), {}), _linked(root / "ring", root / "ring") / "m.gguf")
    assert failure.condition in ("Resolved", "Verified")


async def test_links_and_dots_that_stay_inside_are_followed(root: Path) -> None:
    _linked(root / "link", root)
    linked_root = _linked(root.parent / "linked", root)
    for path in (root / "link" / "m.gguf", root / "x" / ".." / "m.gguf", linked_root / "m.gguf"):
        assert (await Files((linked_root,), {}).verify(asked(path))).path == str(root / "m.gguf")


async def test_without_roots_no_file_is_allowed(root: Path) -> None:
    assert (await refused(Files((), {}), root / "m.gguf")).reason == "PathNotAllowed"


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


NO_FILES: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "folder": os.mkdir,
    "ring of links": lambda path: path.symlink_to(path),
    "socket": listening,
    "link to an endless device": lambda path: path.symlink_to("/dev/zero"),
}


async def test_a_link_is_followed_to_a_file_within_the_roots(root: Path) -> None:
    """As in a hub's cache, where names are links to blobs."""
    (root / "x").symlink_to("m.gguf")
    found = await Files((root,), {}).verify(Verify("m", FileSource(str(root / "x")), None, "key"))
    assert found.path == str(root / "m.gguf")


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
async def test_what_is_no_regular_file_is_refused_at_once(make: Callable[[Path], object], root: Path) -> None:
    make(root / "x")
    failure = await refused(Files((root,), {}), root / "x")
    assert (failure.condition, failure.reason) == ("Verified", "NotARegularFile")


async def test_a_missing_file_and_a_missing_folder_are_not_found(root: Path) -> None:
    for path in (root / "gone", root / "gone" / "m.gguf"):
        failure = await refused(Files((root,), {}), path)
        assert (failure.condition, failure.reason) == ("Resolved", "FileNotFound")


async def test_a_file_that_we_may_not_read_says_so(root: Path) -> None:
    os.chmod(root / "m.gguf", 0)
    me = os.geteuid()
    os.seteuid(me or 65534)  # root may read everything
    try:
        failure = await refused(Files((root,), {}), root / "m.gguf")
    finally:
        os.seteuid(me)
    assert (failure.reason, failure.message) == ("Unreadable", "cannot read m.gguf: Permission denied")


async def test_another_digest_than_the_declared_one_names_both(root: Path) -> None:
    failure = await refused(Files((root,), {}), root / "m.gguf", "0" * 64)
    assert failure.reason == "DigestMismatch"
    assert SHA256 in failure.message
    assert "0" * 64 in failure.message


async def test_a_file_that_was_hashed_is_not_hashed_again_until_it_is_another_one(root: Path) -> None:
    path = root / "m.gguf"
    known = {identity_of(os.stat(path)): "remembered"}
    files = Files((root,), known)
    assert (await files.verify(asked(path))).sha256 == "remembered"
    os.utime(path, ns=(1, 1))
    assert (await files.verify(asked(path))).sha256 == SHA256
    path.write_bytes(BYTES + b"\0")
    assert (await files.verify(asked(path))).sha256 == hashlib.sha256(BYTES + b"\0").hexdigest()


class Meanwhile(dict[Identity, str]):
    """Knows no file, and does something when it is asked, which is just before a file is hashed."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def get(self, key: Identity, default: object = None) -> None:  # type: ignore[override]
        self._act()


async def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(root: Path) -> None:
    path = root / "m.gguf"
    known = Meanwhile(lambda: path.write_bytes(BYTES + b"more"))
    assert (await refused(Files((root,), known), path)).reason == "FileChanging"
    assert known == {}


CANCELLED = """
import sys
from pathlib import Path
import anyio
from offgridd.core.actions import Verify
from offgridd.core.desired import FileSource
from offgridd.effects.files import Files

class Known(dict):
    def get(self, key, default=None):
        anyio.from_thread.run_sync(begun.set)

async def main():
    global begun
    begun, path = anyio.Event(), Path(sys.argv[1])
    async with anyio.create_task_group() as group:
        group.start_soon(Files((path.parent,), Known()).verify, Verify("m", FileSource(str(path)), None, "key"))
        await begun.wait()
        group.cancel_scope.cancel()

anyio.run(main)
"""


def test_a_cancelled_hash_of_a_huge_file_keeps_no_process_from_its_end(root: Path) -> None:
    os.truncate(root / "m.gguf", 1 << 42)  # a hole: it takes an hour to hash and no space
    subprocess.run([sys.executable, "-c", CANCELLED, root / "m.gguf"], check=True, timeout=20)


def put_shards(folder: Path, stem: str = "big") -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number, data in enumerate(tinymodel.model_shards(3)):
        paths.append(folder / tinymodel.shard_name(stem, number, 3))
        paths[-1].write_bytes(data)
    return paths


@pytest.mark.parametrize("named", [0, 1, 2])
async def test_any_shard_means_all_of_them(root: Path, named: int) -> None:
    paths = put_shards(root)
    files = Files((root,), {})
    found = await files.verify(asked(paths[named]))
    assert [part.path for part in found.parts] == list(map(str, paths))
    assert [part.sha256 for part in found.parts] == [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]
    assert found.header == (await files.verify(asked(root / "m.gguf"))).header
    seen = await files.look({"m": [part.path for part in found.parts]})
    assert seen == {"m": tuple(part.identity for part in found.parts)}
    os.utime(paths[2], ns=(1, 1))
    assert await files.look({"m": [part.path for part in found.parts]}) != seen


async def test_shards_may_be_links_to_files_of_any_name(root: Path) -> None:
    real = put_shards(root)
    snapshot = root / "snapshot"
    snapshot.mkdir()
    for number, path in enumerate(real):
        path.rename(root / f"blob{number}")
        (snapshot / path.name).symlink_to(root / f"blob{number}")
    found = await Files((root,), {}).verify(asked(snapshot / real[0].name))
    assert [Path(part.path).name for part in found.parts] == ["blob0", "blob1", "blob2"]


async def test_a_shard_that_leads_out_of_the_roots_is_refused(root: Path) -> None:
    paths = put_shards(root)
    paths[1].rename(root.parent / "moved")
    paths[1].symlink_to(root.parent / "moved")
    assert (await refused(Files((root,), {}), paths[0])).reason == "PathNotAllowed"


async def test_a_shard_that_is_missing_is_named(root: Path) -> None:
    paths = put_shards(root)
    paths[1].unlink()
    failure = await refused(Files((root,), {}), paths[0])
    assert (failure.reason, paths[1].name in failure.message) == ("FileNotFound", True)


async def test_one_sha256_says_nothing_of_several_files(root: Path) -> None:
    assert (await refused(Files((root,), {}), put_shards(root)[0], SHA256)).reason == "OneDigestForShards"


def asked_adapter(path: Path, sha256: str | None = None) -> Verify:
    return Verify("m+a", FileSource(str(path)), sha256, "key", adapter=True)


async def test_an_adapter_is_checked_and_hashed(root: Path) -> None:
    data = lora_of(BASE).bytes()
    (root / "a.gguf").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    found = await Files((root,), {}).verify(asked_adapter(root / "a.gguf", sha256))
    assert (found.source_key, found.sha256, found.header.architecture) == ("key", sha256, "llama")
    assert (found.header.tensor_count > 0, found.size) == (True, len(data))


@pytest.mark.parametrize("what", ["model", "cut", "gone", "outside", "other bytes", "control vector", "pieces"])
async def test_an_adapter_that_is_none_is_refused(root: Path, what: str) -> None:
    path, data = root / "a.gguf", lora_of(BASE).bytes()
    match what:
        case "model":
            path.write_bytes(BYTES)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "outside":
            path = outside(root) / "m.gguf"
        case "other bytes":
            path.write_bytes(data)
        case "control vector":
            path.write_bytes(data.replace(b"lora", b"cvec"))
        case "pieces":
            path = put_shards(root)[0]
    with pytest.raises(ActionFailed) as caught:
        await Files((root,), {}).verify(asked_adapter(path, "0" * 64 if what == "other bytes" else None))
    reason = {"cut": "Truncated", "gone": "FileNotFound", "outside": "PathNotAllowed", "other bytes": "DigestMismatch"}
    assert caught.value.failure.reason == reason.get(what, "InvalidModel")
    assert caught.value.failure.message.startswith("cannot")
