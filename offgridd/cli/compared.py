"""plan --against: a manifest beside the same file in another commit, for pull requests."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from offgridd.cli.client import REFUSED, CliError
from offgridd.cli.reading import read_files
from offgridd.cli.terminal import say

if TYPE_CHECKING:  # pydantic comes with it
    from offgridd.core.desired import Desired

CHANGES = 6


def plan_against(path: Path, ref: str, output: str) -> int:
    """0 without changes, 6 with some, 1 where one of both is not valid. Raises CliError."""
    from offgridd.core.comparing import as_markdown, as_text, compare
    from offgridd.effects.git.against import GitError, manifest_at

    try:
        commit, files = manifest_at(path, ref)
    except GitError as error:
        raise CliError(REFUSED, str(error)) from None
    before, after = _accepted(files), _accepted(read_files(path))
    if before is None or after is None:
        return REFUSED
    found = compare(before, after)
    if output == "json":
        say(json.dumps({"against": commit, **asdict(found)}, indent=2))
    elif output == "markdown":
        say(as_markdown(found, f"{path.name} beside {ref} ({commit[:12]})").rstrip("\n"))
    else:
        say(*(as_text(found) or ["no changes"]))
    return 0 if found.empty else CHANGES


def _accepted(files: Sequence[tuple[str, bytes]]) -> Desired | None:
    """None where it is not valid, which is then said."""
    from offgridd.core.errors import ManifestError
    from offgridd.manifest import accept_files

    try:
        return accept_files(files).desired
    except ManifestError as error:
        say(*error.problems, file=sys.stderr)
        return None
