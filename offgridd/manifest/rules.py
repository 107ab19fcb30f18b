"""What one field alone cannot tell: sources and their paths, aliases that collide, addresses that need care.

`accept` calls it on the merged text, valid or not, so that all problems are reported at once. What has the wrong
type is passed over here: the schema reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from offgridd.core.desired import LoadSpec
from offgridd.manifest import values
from offgridd.manifest.benchmarksection import against_each_other
from offgridd.manifest.nodes import Path
from offgridd.manifest.problems import show

Where = Callable[[Path], str]  # "FILE:LINE" of a path
_PLAIN_TYPES: Final = ("f16", "bf16", "f32")
HUB_ONLY: Final = ("quant", "endpoint", "token", "updates", "check_every")


class Finding(NamedTuple):
    path: Path
    reason: str
    message: str


def check(data: dict[str, Any], where: Where) -> Iterator[Finding]:
    """All findings about the merged manifest `data`."""
    yield from _addresses(_map(data, "server"))
    models = _map(data, "models")
    for name in models:
        model = _map(models, name)
        yield from _source(("models", name, "source"), model)
        yield from _adapters(name, model)
        yield from _engine(name, model, _map(data, "defaults"))
        yield from _draft(name, models, _map(data, "defaults"))
        yield from _staying(name, model, _map(data, "defaults"))
        yield from _token(("models", name, "token"), model)
        yield from _benchmark(name, model, _map(data, "defaults"))
    yield from _token(("defaults", "token"), _map(data, "defaults"))
    yield from _git(_map(data, "git"))
    yield from _aliases(models, where)


def _map(parent: dict[str, Any], key: str) -> dict[str, Any]:
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def _texts(parent: dict[str, Any], key: str) -> Iterator[tuple[int, str]]:
    found = parent.get(key)
    for index, entry in enumerate(found if isinstance(found, list) else ()):
        if isinstance(entry, str):
            yield index, entry


def _addresses(server: dict[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, text in _texts(server, "listen"):
        path: Path = ("server", "listen", index)
        try:
            found = values.address(text)
        except ValueError:
            continue
        if str(found) in seen:
            yield Finding(path, "InvalidValue", f"cannot listen on {show(text)} twice; remove one of them")
        seen.add(str(found))
        if not found.loopback and server.get("insecure") is not True:
            message = (
                f"cannot listen on {show(text)}: it is reachable from other machines and the API asks for no key; "
                "listen on 127.0.0.1, or say 'insecure: true' under server"
            )
            yield Finding(path, "InsecureListen", message)


def _source(path: Path, model: dict[str, Any]) -> Iterator[Finding]:
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
        misplaced = [(*path, "revision")] if "revision" in source else []
        misplaced += [(*path[:-1], key) for key in _misplaced(model)]
        misplaced += [(*path[:-1], "max_size")] if "max_size" in model else []
        yield from map(_hub_only, misplaced)
    yield from _file_path((*path, "file"), source, values.inner_path if kinds else values.host_path)


def _web(path: Path, model: dict[str, Any], source: dict[str, Any]) -> Iterator[Finding]:
    misplaced = [(*path, key) for key in ("file", "revision") if key in source]
    misplaced += [(*path[:-1], key) for key in _misplaced(model)]
    yield from map(_hub_only, misplaced)
    if not misplaced and "sha256" not in model:
        message = "cannot use a 'url' without 'sha256': anybody could put another file there; write the model's sha256"
        yield Finding((*path, "url"), "MissingField", message)


def _adapters(name: str, model: dict[str, Any]) -> Iterator[Finding]:
    adapters = _map(model, "adapters")
    for adapter in adapters:
        path: Path = ("models", name, "adapters", adapter, "source")
        yield from _source(path, _map(adapters, adapter))
        source = _map(_map(adapters, adapter), "source")
        if "hf" in source and "file" not in source:
            message = "cannot use this source: no rule chooses among a repository's adapters; add 'file'"
            yield Finding(path, "MissingField", message)


def _misplaced(model: dict[str, Any]) -> Iterator[str]:
    """What of a model, whose source is no hub's, only goes with one; its adapters may be of a hub."""
    adapters = _map(model, "adapters")
    of_hub = any("hf" in _map(_map(adapters, name), "source") for name in adapters)
    yield from (key for key in HUB_ONLY if key in model and (key == "quant" or not of_hub))


def _token(path: Path, given: dict[str, Any]) -> Iterator[Finding]:
    token = given.get("token")
    if isinstance(token, dict) and len(token) != 1:
        message = "cannot use this token: it is in one place; write one of 'credential', 'file' and 'env'"
        yield Finding(path, "ConflictingFields" if token else "MissingField", message)


def _git(git: dict[str, Any]) -> Iterator[Finding]:
    yield from _token(("git", "token"), git)
    if "token" in git and isinstance(url := git.get("url"), str) and not url.startswith("http"):
        message = "cannot use 'token' here: a folder of this host asks for none; remove it"
        yield Finding(("git", "token"), "ConflictingFields", message)
    ref = git.get("ref")
    if isinstance(ref, str) and (".." in ref or ref.endswith((".", "/", ".lock")) or "//" in ref):
        message = f"cannot use the ref {show(ref)}: Git has no such names; write a branch or tag"
        yield Finding(("git", "ref"), "InvalidValue", message)


def _engine(name: str, model: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Finding]:
    """Fields that contradict each other, wherever each was written."""
    given = {**defaults, **model}

    def finding(key: str, why: str) -> Finding:
        path: Path = ("models", name, key) if key in model else ("defaults", key)
        return Finding(path, "ConflictingFields", f"cannot use this {key} for {show(name)}: {why}")

    if given.get("deterministic") is True:
        yield from (finding(key, f"deterministic needs {kept}; remove it") for key, kept in _against(given))
    elif given.get("flash_attention") is False and given.get("cache_type_v") not in (None, *_PLAIN_TYPES):
        yield finding("cache_type_v", f"without flash_attention values are {', '.join(_PLAIN_TYPES)}; choose one")


def _draft(name: str, models: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Finding]:
    """A draft is another model of the manifest, for text, that has none itself."""
    given = {**defaults, **_map(models, name)}
    draft = _map(given, "speculative").get("draft")
    if not isinstance(draft, str):
        return
    other = {**defaults, **_map(models, draft)}
    if draft not in models:
        why = "the manifest declares no model of that name; write the name of one"
    elif draft == name:
        why = "it is the model itself; name a smaller one with the same tokens"
    elif given.get("pooling", "auto") != "auto":
        why = "the model makes no text; remove it"
    elif other.get("pooling", "auto") != "auto":
        why = "it makes no text; name another model"
    elif _map(other, "speculative").get("draft") is not None:
        why = f"it has a draft itself; write 'speculative: {{}}' at {show(draft)}, or name another model"
    else:
        return
    own = "speculative" in _map(models, name)
    path: Path = (*(("models", name) if own else ("defaults",)), "speculative", "draft")
    reason = "ConflictingFields" if draft in models else "InvalidValue"
    yield Finding(path, reason, f"cannot use the draft {show(draft)} for {show(name)}: {why}")


def _staying(name: str, model: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Finding]:
    """What is loaded at once, or never makes room, is not unloaded for being idle."""
    given = {**defaults, **model}
    if given.get("idle_unload") is None:
        return
    path: Path = ("models", name, "idle_unload") if "idle_unload" in model else ("defaults", "idle_unload")
    if given.get("preload", True) is True:
        why = "it is loaded at once and stays; write 'preload: false', or remove it"
    elif given.get("pin") is True:
        why = "'pin' keeps it in memory; remove one of them"
    else:
        return
    yield Finding(path, "ConflictingFields", f"cannot use idle_unload for {show(name)}: {why}")


def _benchmark(name: str, model: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Finding]:
    """Field by field what stands in the model wins over the defaults."""
    if not isinstance(model.get("benchmark", defaults.get("benchmark")), dict):
        return
    own = _map(model, "benchmark")
    for key, why in against_each_other({**_map(defaults, "benchmark"), **own}):
        path: Path = ("models", name, "benchmark", key) if key in own else ("defaults", "benchmark", key)
        yield Finding(path, "ConflictingFields", f"cannot use this {key} for {show(name)}: {why}")


def _against(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What contradicts `deterministic`, and what it needs instead."""
    if given.get("flash_attention") is False:
        yield "flash_attention", "flash attention"
    if given.get("cache_type_k") not in (None, "f16"):
        yield "cache_type_k", "keys as f16"
    if given.get("cache_type_v") not in (None, "q8_0"):
        yield "cache_type_v", "values as q8_0"
    if given.get("gpu_layers"):
        yield "gpu_layers", "the CPU"
    cells, context, parallel = given.get("kv_cells"), given.get("context"), given.get("parallel", LoadSpec().parallel)
    if all(isinstance(number, int) for number in (cells, context, parallel)) and cells < context * parallel:
        yield "kv_cells", f"context x parallel, {context * parallel} cells"


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


def _aliases(models: dict[str, Any], where: Where) -> Iterator[Finding]:
    owners: dict[str, Path] = {name: ("models", name) for name in models}
    for name in models:
        for index, alias in _texts(_map(models, name), "aliases"):
            path: Path = ("models", name, "aliases", index)
            first = owners.setdefault(alias, path)
            if first is path:
                continue
            what = "the name" if len(first) == 2 else "an alias"
            message = (
                f"cannot use the alias {show(alias)} at {where(path)}: it is {what} of model {show(str(first[1]))} "
                f"at {where(first)}; choose another"
            )
            yield Finding(path, "DuplicateAlias", message)
