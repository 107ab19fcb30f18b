"""Bundles as bytes: what no bundle of ours would be, and descriptors of every kind."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
import threading
from pathlib import Path

import anyio
import pytest
from support.limits import high_descriptors

from offgridd.core.bundle import Bundle, BundleError
from offgridd.core.desired import Desired, HubSource, StoreSpec
from offgridd.core.hub import HubFile, Pin
from offgridd.core.locking import LockEntry
from offgridd.effects.bundles import BETWEEN, PIECE, BundleReader, Opened, tar_members, write_tar
from offgridd.effects.bundling import Bundling, Run
from offgridd.effects.catalog import Catalog
from offgridd.effects.files import Files
from offgridd.effects.holds import Holds
from offgridd.effects.store import Store
from offgridd.manifest import write_lock


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


def test_who_looks_for_room_knows_what_an_import_still_brings(tmp_path: Path) -> None:
    data = os.urandom(3 * PIECE)
    sha256 = hashlib.sha256(data).hexdigest()
    entry = LockEntry(
        HubSource("o/r"), "https://huggingface.co", "c" * 40, "Q8_0", (HubFile("a.gguf", len(data), sha256),)
    )
    manifest = "apiVersion: offgridd/v1\nmodels: {m: {source: {hf: o/r}}}\n"
    bundle = Bundle((("m.yaml", manifest),), write_lock({"m": entry}), {sha256: len(data)})
    (tmp_path / "blob").write_bytes(data)
    with (tmp_path / "b.tar").open("w+b") as file:
        write_tar(Opened(file.fileno(), lambda: None), bundle, lambda _: tmp_path / "blob", lambda _: None)
        file.seek(0)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        socket.send_fds(theirs, [b'{"names": []}\n'], [file.fileno()])
        theirs.close()
    holds, seen, pins = Holds(), list[int](), dict[str, Pin]()
    desired = Desired(store=StoreSpec(min_free=0))
    bundling = Bundling(
        Store(tmp_path / "state"), Files((), {}), Kept(pins), Catalog(tmp_path / "c.db"), holds, lambda: desired
    )
    with ours:
        anyio.run(bundling.take, Run(ours, lambda _here, _size: seen.append(holds.others(""))))
    assert seen == [2 * PIECE, PIECE, 0]
    assert (holds.others(""), pins["m"].files) == (0, entry.files)


class Kept:
    def __init__(self, pins: dict[str, Pin]) -> None:
        self.pins = pins

    def keep(self, model: str, value: Pin) -> bool:
        self.pins[model] = value
        return True
