"""Model files inside installed packages, and the look at files that were verified. Nothing of a package is imported."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from support import tinymodel

from offgridd.core.actions import Verify
from offgridd.core.desired import PackageSource
from offgridd.core.errors import ActionFailed, Failure
from offgridd.core.observed import VerifiedFile
from offgridd.effects.files import Files, identity_of

BYTES = tinymodel.model()


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path in which the distribution tiny-model is installed, as an installer does it."""
    put(tmp_path / "tiny_model" / "m.gguf", BYTES)
    put(tmp_path / "tiny_model" / "__init__.py", b"raise SystemExit('imported')")
    put(tmp_path / "tiny_model" / "unlisted.gguf", BYTES)
    info = tmp_path / "tiny_model-1.0.dist-info"
    put(info / "METADATA", b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
    put(info / "RECORD", b"tiny_model/m.gguf,,\ntiny_model/__init__.py,,\ntiny_model/gone.gguf,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


async def verify(package: str, file: str) -> VerifiedFile:
    return await Files((), {}).verify(Verify("m", PackageSource(package, file), None, "key"))


async def refused(package: str, file: str) -> Failure:
    with pytest.raises(ActionFailed) as caught:
        await verify(package, file)
    return caught.value.failure


@pytest.mark.parametrize(
    ("package", "file"),
    [("tiny-model", "tiny_model/m.gguf"), ("Tiny.Model", "tiny_model/m.gguf"), ("tiny-model", "m.gguf")],
)
async def test_a_listed_file_is_found_by_its_whole_name_or_within_the_package(
    package: str, file: str, site: Path
) -> None:
    found = await verify(package, file)
    assert (found.path, found.sha256) == (str(site / "tiny_model" / "m.gguf"), hashlib.sha256(BYTES).hexdigest())


async def test_a_package_that_is_not_installed_says_where_it_was_looked_for() -> None:
    failure = await refused("no-such-model", "m.gguf")
    assert (failure.condition, failure.reason) == ("Resolved", "PackageNotInstalled")
    assert "cannot find the package no-such-model" in failure.message


@pytest.mark.parametrize("file", ["tiny_model/unlisted.gguf", "../m.gguf", "/etc/passwd", "tiny_model/../m.gguf", ""])
async def test_only_what_the_package_lists_is_in_it(file: str) -> None:
    failure = await refused("tiny-model", file)
    assert (failure.condition, failure.reason) == ("Resolved", "FileNotInPackage")


async def test_a_listed_file_that_is_gone_is_no_crash() -> None:
    failure = await refused("tiny-model", "gone.gguf")
    assert failure.condition == "Resolved"
    assert failure.reason in ("FileNotFound", "FileNotInPackage")  # newer versions of Python list what is there only


async def test_a_package_without_a_list_has_no_files(site: Path) -> None:
    os.unlink(site / "tiny_model-1.0.dist-info" / "RECORD")
    assert (await refused("tiny-model", "m.gguf")).reason == "FileNotInPackage"


async def test_a_look_tells_files_that_are_there_from_what_is_not_a_file(site: Path) -> None:
    model = site / "tiny_model" / "m.gguf"
    os.symlink(model, site / "link")
    os.mkfifo(site / "fifo")
    paths = {"a": model, "gone": site / "gone", "folder": site, "link": site / "link", "fifo": site / "fifo"}
    seen = await Files((), {}).look({name: [str(path)] for name, path in paths.items()})
    assert seen == {"a": (identity_of(os.stat(model)),), "gone": None, "folder": None, "link": None, "fifo": None}


async def test_a_look_sees_what_a_write_changes(site: Path) -> None:
    model, files = site / "tiny_model" / "m.gguf", Files((), {})
    before = await files.look({"a": [str(model)]})
    assert await files.look({"a": [str(model)]}) == before
    put(model, BYTES + b"\0")
    assert await files.look({"a": [str(model)]}) != before
