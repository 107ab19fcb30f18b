"""The text of `offgridd.lock`, read and written. The same lock is always the same bytes.

Strings are quoted as JSON has them, which YAML reads alike: a sha256 of digits alone is no number then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationError

from offgridd.core.adapters import PLUS
from offgridd.core.choice import AUTO
from offgridd.core.desired import HubSource
from offgridd.core.errors import ManifestError, Problem
from offgridd.core.hub import MOST_SIZE, HubFile, is_path
from offgridd.core.locking import Lock, LockEntry
from offgridd.manifest import values
from offgridd.manifest.builder import Budget
from offgridd.manifest.fields import Endpoint, Name, Section
from offgridd.manifest.nodes import MapNode, locate, plain
from offgridd.manifest.problems import dotted
from offgridd.manifest.yamltext import load

VERSION: Final = 1
MAX_BYTES: Final = 16 << 20  # of the file
MAX_FILES: Final = 1000  # of one model
_HEAD: Final = (
    "# What each model's source means. Made by offgrid lock: commit it beside the manifest, and do not edit it.\n"
)


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("is no path of a file")
    return text


def _worn(text: str) -> str:
    """MODEL+ADAPTER."""
    model, plus, adapter = text.partition(PLUS)
    if not (plus and re.fullmatch(values.NAME, model) and re.fullmatch(values.NAME, adapter)):
        raise ValueError("is no MODEL+ADAPTER")
    return text


_PathText = Annotated[str, AfterValidator(_path)]
_Quant = Annotated[str, Field(pattern=values.QUANT)]
_Revision = Annotated[str, Field(pattern=values.REVISION)]


_Worn = Annotated[str, AfterValidator(_worn)]


class _File(Section):
    path: _PathText
    size: int = Field(ge=0, lt=MOST_SIZE)
    sha256: str = Field(pattern=values.SHA256)


class _Source(Section):
    hf: str = Field(pattern=values.REPO)
    file: _PathText | None = None
    revision: _Revision | None = None


class _Entry(Section):
    source: _Source
    asked: list[_Quant] = Field(max_length=16)  # quants
    quant: _Quant | None = None
    endpoint: Endpoint
    commit: _Revision
    files: list[_File] = Field(min_length=1, max_length=MAX_FILES)


class _LockText(Section):
    lockVersion: Literal[1]  # noqa: N815
    models: dict[Name, _Entry]
    adapters: dict[_Worn, _Entry] = Field({}, min_length=1)


def read_lock(name: str, text: bytes) -> Lock:
    """What `text` says; `name` stands for the file in positions. Raises ManifestError."""
    root = load(name, text, Budget(nodes=len(text), chars=len(text)), most=MAX_BYTES)
    try:
        found = _LockText.model_validate(plain(root))
    except ValidationError as error:
        raise ManifestError(tuple(_problems(root, error))) from None
    return {name: _entry(entry) for name, entry in (*found.models.items(), *found.adapters.items())}


def write_lock(lock: Lock) -> str:
    """The text that says `lock`."""
    models = {name: entry for name, entry in lock.items() if PLUS not in name}
    adapters = {name: entry for name, entry in lock.items() if PLUS in name}
    lines = [f"lockVersion: {VERSION}", "models:" if models else "models: {}", *_entries(models)]
    lines += ["adapters:", *_entries(adapters)] if adapters else []
    return _HEAD + "\n".join(lines) + "\n"


def _entries(lock: Lock) -> Iterator[str]:
    for name, entry in sorted(lock.items()):
        yield f"  {_quoted(name)}:"
        yield from (f"    {line}" for line in _lines(entry))


def _lines(entry: LockEntry) -> Iterator[str]:
    asked = entry.asked
    source = {"hf": asked.repo, "file": asked.file, "revision": asked.revision}
    yield "source:"
    yield from (f"  {key}: {_quoted(value)}" for key, value in source.items() if value is not None)
    quants = () if asked.file is not None else asked.quants or (AUTO,)
    yield f"asked: [{', '.join(map(_quoted, quants))}]"
    if entry.quant is not None:
        yield f"quant: {_quoted(entry.quant)}"
    yield f"endpoint: {_quoted(entry.endpoint)}"
    yield f"commit: {_quoted(entry.commit)}"
    yield "files:"
    for file in entry.files:
        yield from (f"  - path: {_quoted(file.path)}", f"    size: {file.size}", f"    sha256: {_quoted(file.digest)}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _entry(found: _Entry) -> LockEntry:
    asked = tuple(found.asked)
    source = HubSource(found.source.hf, found.source.file, found.source.revision, () if asked == (AUTO,) else asked)
    files = tuple(HubFile(f.path, f.size, f.sha256) for f in found.files)
    return LockEntry(source, found.endpoint, found.commit, found.quant, files)


def _problems(root: MapNode, error: ValidationError) -> Iterator[Problem]:
    for detail in islice(error.errors(include_url=False), 5):
        path: tuple[Any, ...] = detail["loc"]
        message = f"cannot use the lock: {dotted(path)}: {detail['msg']}; remove it and run offgrid lock"
        yield Problem("InvalidLock", message, *locate(root, path)[0])
