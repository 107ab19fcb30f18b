"""Reads a manifest for commands that need no daemon."""

from __future__ import annotations

from pathlib import Path

from offgridd.cli.client import REFUSED, CliError
from offgridd.effects import source


def read_files(path: Path) -> list[tuple[str, bytes]]:
    """The manifest, its own conf.d and its lock. Raises CliError."""
    try:
        return list(source.read(path))
    except OSError as error:
        raise CliError(REFUSED, f"cannot read {error.filename}: {error.strerror}") from None
