"""pull --declare: the lines that declare what was pulled, shown or added to a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from offgridd.cli.client import REFUSED, CliError
from offgridd.cli.reading import read_files
from offgridd.cli.writing import write

if TYPE_CHECKING:  # pydantic comes with it
    from offgridd.core.desired import Desired

BY_HAND = "--declare without a file shows the lines to add by hand"
Files = list[tuple[str, bytes]]


def readable(path: Path) -> None:
    """Looks whether a model can be added there, before one is fetched for it. Raises CliError."""
    _meaning(path, read_files(path))


def add(path: Path, entry: str) -> str:
    """Adds the lines to the manifest, all else in it untouched; gives the model's name. Raises CliError."""
    from offgridd.manifest import add_model

    files = read_files(path)
    before = _meaning(path, files)
    try:
        data = add_model(files[0][1].decode(), entry).encode()
    except ValueError as error:  # also where it is no UTF-8
        raise _refused(path, f"{error}; {BY_HAND}") from None
    after = _meaning(path, [(files[0][0], data), *files[1:]])
    added = sorted(set(after.models) - set(before.models))
    same = {name: spec for name, spec in after.models.items() if name not in added} == dict(before.models)
    if len(added) != 1 or not same or replace(after, models=before.models, digest=before.digest) != before:
        raise _refused(path, f"a model of that name is declared, or it would come to mean something else; {BY_HAND}")
    if read_files(path) != files:
        raise _refused(path, "it is being edited; try again")
    write(path, data)
    return added[0]


def _meaning(path: Path, files: Files) -> Desired:
    from offgridd.core.errors import ManifestError
    from offgridd.manifest import accept_files

    try:
        return accept_files(files).desired
    except ManifestError as error:
        raise _refused(path, f"it is not valid, or would not be: {error.problems[0]}") from None


def _refused(path: Path, why: str) -> CliError:
    return CliError(REFUSED, f"cannot add a model to {path}: {why}")
