"""What one field of a source cannot tell: where a file is, and how it is chosen; of a model, and of its adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from offgridd.manifest import values
from offgridd.manifest.nodes import Path
from offgridd.manifest.problems import show

HUB_ONLY: Final = ("quant", "endpoint", "token", "updates", "check_every")


class Finding(NamedTuple):
    path: Path
    reason: str
    message: str


def submap(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """What is there, if it is a map; else an empty one."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def check_source(path: Path, model: dict[str, Any]) -> Iterator[Finding]:
    """`path` is of the source of `model`, which may be an adapter."""
    source = model.get("source")
    if not isinstance(source, dict) or not all(isinstance(value, str) for value in source.values()):
        return
    kinds = [key for key in ("package", "hf", "url") if key in source]
    if len(kinds) > 1:
        message = f"cannot use a source with both '{kinds[0]}' and '{kinds[1]}': a file has one origin; remove one"
        yield Finding((*path, kinds[1]), "ConflictingFields", message)
        return
    if kinds == ["url"]:
        yield from _web(path, model, source)
        return
    if not kinds and "file" not in source:
        if source.keys() - {"revision"}:  # one that is unknown or refused: probably the origin, misspelt
            return
        message = "cannot use this source: it names nothing; write 'package' with 'file', 'file', 'hf' or 'url'"
        yield Finding(path, "MissingField", message)
        return
    if kinds == ["package"] and "file" not in source:
        message = "cannot use this source: a package holds many files; add 'file', the path inside the package"
        yield Finding(path, "MissingField", message)
    if kinds == ["hf"]:
        yield from _hub_choice(path, model, source)
    else:
        wrong = [(*path, "revision")] if "revision" in source else []
        wrong += [(*path[:-1], key) for key in misplaced(model) if key in model]
        wrong += [(*path[:-1], "max_size")] if "max_size" in model else []
        yield from map(_hub_only, wrong)
    yield from _file_path((*path, "file"), source, values.inner_path if kinds else values.host_path)


def _web(path: Path, model: dict[str, Any], source: dict[str, Any]) -> Iterator[Finding]:
    wrong = [(*path, key) for key in ("file", "revision") if key in source]
    wrong += [(*path[:-1], key) for key in misplaced(model) if key in model]
    yield from map(_hub_only, wrong)
    if not wrong and "sha256" not in model:
        message = "cannot use a 'url' without 'sha256': anybody could put another file there; write its sha256"
        yield Finding((*path, "url"), "MissingField", message)


def check_adapters(name: str, model: dict[str, Any]) -> Iterator[Finding]:
    adapters = submap(model, "adapters")
    for adapter in adapters:
        path: Path = ("models", name, "adapters", adapter, "source")
        yield from check_source(path, submap(adapters, adapter))
        source = submap(submap(adapters, adapter), "source")
        if "hf" in source and "file" not in source:
            message = "cannot use this source: no rule chooses among a repository's adapters; add 'file'"
            yield Finding(path, "MissingField", message)


def misplaced(model: dict[str, Any]) -> Iterator[str]:
    """The fields that mean nothing beside a source that is no hub's; its adapters may be of a hub."""
    adapters = submap(model, "adapters")
    of_hub = any("hf" in submap(submap(adapters, name), "source") for name in adapters)
    yield from (key for key in HUB_ONLY if key == "quant" or not of_hub)


def _hub_only(path: Path) -> Finding:
    message = (
        f"cannot use '{path[-1]}' here: it chooses among a repository's files, and this source is no 'hf'; remove it"
    )
    return Finding(path, "ConflictingFields", message)


def _hub_choice(path: Path, model: dict[str, Any], source: dict[str, Any]) -> Iterator[Finding]:
    if "file" in source and "quant" in model:
        message = "cannot use 'quant' beside the source's 'file': both choose the file; remove one"
        yield Finding((*path[:-1], "quant"), "ConflictingFields", message)
    revision = source.get("revision", "")
    if ".." in revision:
        message = f"cannot use the revision {show(revision)}: it has '..' in it; write a commit, tag or branch"
        yield Finding((*path, "revision"), "InvalidValue", message)


def _file_path(path: Path, source: dict[str, Any], read: Callable[[str], str]) -> Iterator[Finding]:
    if "file" in source:
        try:
            read(source["file"])
        except ValueError as error:
            yield Finding(path, "PathNotAllowed", f"cannot use the file {show(source['file'])}: it {error}")
