"""A manifest of two halves: this host's own file, and what its `git` section has fetched.

The host says what is the host's: `server`, `store` and `git`. The repository says `models` and `defaults`, so that who
may write there can neither open an address nor point to another repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest.nodes import Entry, MapNode

_OURS: Final = ("server", "store", "git")
_THEIRS: Final = ("models", "defaults")


def joined(own: MapNode, fetched: MapNode | None) -> MapNode:
    """What both say together; where nothing was fetched yet, no models. Raises ManifestError."""
    problems = list(_misplaced(own, _THEIRS, "'git' says that the repository has them; remove one of both"))
    if fetched is not None:
        problems += _misplaced(fetched, _OURS, "it is for each host's own manifest; remove it here")
    if problems:
        raise ManifestError(tuple(problems))
    if fetched is None:
        return MapNode(own.mark, {**own.entries, "models": Entry(own.mark, MapNode(own.mark))})
    theirs = {key: entry for key, entry in fetched.entries.items() if key != "apiVersion"}
    return MapNode(fetched.mark, {**own.entries, **theirs})


def _misplaced(root: MapNode, keys: tuple[str, ...], why: str) -> Iterator[Problem]:
    for key in keys:
        if key in root.entries:
            yield Problem("ConflictingFields", f"cannot use '{key}' here: {why}", *root.entries[key].mark)
