"""What a command writes: a file is replaced, anything else is written to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offgridd.cli.writing import write


def test_a_file_is_replaced_and_a_link_to_it_stays(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link", b"one")
    (tmp_path / "file").chmod(0o640)
    write(tmp_path / "link", b"two")
    assert (tmp_path / "file").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_stays_one_and_gets_it(tmp_path: Path) -> None:
    """As /dev/stdout, /dev/null and what a shell makes of >(command) are."""
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(tmp_path / "pipe", b"one")
        write(Path(f"/dev/fd/{end}"), b"two")
        assert os.read(end, 100) == b"onetwo"
    finally:
        os.close(end)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
