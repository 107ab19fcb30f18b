"""Bundles as bytes: what no bundle of ours would be, and descriptors of every kind."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from pathlib import Path

import pytest
from support.limits import high_descriptors

from offgridd.core.bundle import BundleError
from offgridd.effects.bundles import BETWEEN, BundleReader, Opened, tar_members


def read(path: Path) -> BundleReader:
    return BundleReader(tar_members(Opened(os.open(path, os.O_RDONLY), lambda: None)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_without_end_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """A file with a hole of a terabyte: whoever read it would have no memory left."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 1 << 40
    with (tmp_path / "b.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="no end"):
        read(tmp_path / "b.tar").head()


def test_headers_of_headers_are_no_bundle(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    (tmp_path / "b.tar").write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"x" + bytes(511)) * 2000)
    with pytest.raises(BundleError, match="it is no tar"):
        read(tmp_path / "b.tar").head()


def test_members_larger_than_what_may_stand_between_them(tmp_path: Path) -> None:
    """And with what other programs say of them. Both are whole, read or passed over."""
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for _ in range(3):
            info = tarfile.TarInfo("a")
            info.size, info.pax_headers = 3 * BETWEEN, {"comment": "x" * 10_000}
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    members = tar_members(Opened(os.open(tmp_path / "b.tar", os.O_RDONLY), lambda: None))
    assert len(next(members).file.read(4 * BETWEEN)) == 3 * BETWEEN
    assert [m.size for m in members] == [3 * BETWEEN] * 2


def test_a_pipe_is_read_and_written_with_many_files_open() -> None:
    data, checks = os.urandom(1 << 18), list[int]()
    with high_descriptors():
        out, into = os.pipe()
        assert min(out, into) > 1023

        def write() -> None:
            with open(into, "wb"):
                Opened(into, lambda: None).write(data)

        writing = threading.Thread(target=write)
        writing.start()
        with open(out, "rb"):
            assert Opened(out, lambda: checks.append(1)).read() == data, "to its end"
        writing.join()
    assert checks
