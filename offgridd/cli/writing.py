"""Files of the user that a command writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offgridd.cli.client import REFUSED, CliError
from offgridd.effects.durable import replace_file


def write(path: Path, data: bytes) -> None:
    """Raises CliError. A link stays one; the mode is that of the file before, or what the umask says.

    What is there and is no file, such as a pipe or /dev/null, is written to: it is not ours to replace.
    """
    real = Path(os.path.realpath(path))
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        if real.exists() and real.read_bytes() == data:
            return
        mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else 0o666 & ~_umask()
        replace_file(real, data, mode)
    except OSError as error:
        raise CliError(REFUSED, f"cannot write {path}: {error.strerror}") from None


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found
