"""Texts -> one tree that is known to be valid, or every problem that was found. What it means is for `accept`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest import rules, sections
from offgridd.manifest.builder import Budget
from offgridd.manifest.fetched import joined
from offgridd.manifest.merge import merge
from offgridd.manifest.nodes import MapNode, Path, Scalar, locate, plain
from offgridd.manifest.problems import explain, missing_values, show
from offgridd.manifest.yamltext import load

MAX_PROBLEMS: Final = 20  # that are reported; the first in the text come first
MAX_EXPLAINED: Final = 1000  # that are looked at for those, so that a file of nonsense is refused as soon as any
MAX_FRAGMENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class SourceText:
    """One file: `name` is what positions call it, `text` its bytes."""

    name: str
    text: bytes


def read(sources: Sequence[SourceText], fetched: Sequence[SourceText]) -> tuple[MapNode, sections.Manifest]:
    """The tree that `sources` and what their `git` has `fetched` make together, and that it is valid.

    The first of each is a manifest, the others are laid over it. Raises ManifestError.
    """
    root = merge(*_load(sources))
    if "git" in root.entries:
        theirs = merge(*_load(fetched)) if fetched else None
        for one in (root, theirs):
            if one is not None:
                _check_version(one)
        root = joined(root, theirs)
    manifest, problems = _validate(root)
    if manifest is None or problems:
        order = {source.name: index for index, source in enumerate((*sources, *fetched))}
        problems.sort(key=lambda problem: (order[problem.file], problem.line, problem.column))
        raise ManifestError(tuple(problems[:MAX_PROBLEMS]))
    return root, manifest


def _load(sources: Sequence[SourceText]) -> tuple[MapNode, list[MapNode]]:
    """Each file's document; a problem in one does not hide those in the others."""
    if len(sources) > MAX_FRAGMENTS + 1:
        message = f"cannot read {len(sources) - 1} conf.d files: the limit is {MAX_FRAGMENTS}; join some"
        raise ManifestError((Problem("TooComplex", message, sources[0].name),))
    budget = Budget()
    documents: list[MapNode] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            documents.append(load(source.name, source.text, budget))
        except ManifestError as error:
            problems.extend(error.problems)
        if len(problems) >= MAX_PROBLEMS or budget.spent:
            break
    if problems:
        raise ManifestError(tuple(problems))
    return documents[0], documents[1:]


def _validate(root: MapNode) -> tuple[sections.Manifest | None, list[Problem]]:
    _check_version(root)
    data: Any = plain(root)
    problems = list(missing_values(root))
    manifest = None
    try:
        manifest = sections.Manifest.model_validate(data)
    except ValidationError as error:
        problems.extend(islice(explain(root, error), MAX_EXPLAINED))
    for path, reason, message in rules.check(data, lambda path: _where(root, path)):
        problems.append(Problem(reason, message, *locate(root, path)[0]))
    return manifest, problems


def _check_version(root: MapNode) -> None:
    """Another version's keys are not ours to judge."""
    entry = root.entries.get("apiVersion")
    if entry is None or not isinstance(entry.value, Scalar):
        return
    found = entry.value
    if isinstance(found.value, str) and found.value != sections.API_VERSION:
        message = f"cannot read apiVersion {show(found.text)}: this version reads {sections.API_VERSION}; write that"
        raise ManifestError((Problem("UnsupportedVersion", message, *found.mark),))


def _where(root: MapNode, path: Path) -> str:
    mark, _ = locate(root, path)
    return f"{mark.file}:{mark.line}"
