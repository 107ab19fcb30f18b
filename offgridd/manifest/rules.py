"""What one field alone cannot tell: aliases that collide, addresses that need care, fields against each other.

`accept` calls it on the merged text, valid or not, so that all problems are reported at once. What has the wrong
type is passed over here: the schema reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from offgridd.core.desired import LoadSpec
from offgridd.manifest import values
from offgridd.manifest.benchmarksection import against_each_other
from offgridd.manifest.nodes import Path
from offgridd.manifest.problems import show
from offgridd.manifest.sourcerules import Finding, check_adapters, check_source, submap

Where = Callable[[Path], str]  # "FILE:LINE" of a path
_PLAIN_TYPES: Final = ("f16", "bf16", "f32")


def check(data: dict[str, Any], where: Where) -> Iterator[Finding]:
    """All findings about the merged manifest `data`."""
    yield from _addresses(submap(data, "server"))
    models = submap(data, "models")
    for name in models:
        model = submap(models, name)
        yield from check_source(("models", name, "source"), model)
        yield from check_adapters(name, model)
        yield from _engine(name, model, submap(data, "defaults"))
        yield from _draft(name, models, submap(data, "defaults"))
        yield from _staying(name, model, submap(data, "defaults"))
        yield from _token(("models", name, "token"), model)
        yield from _benchmark(name, model, submap(data, "defaults"))
    yield from _token(("defaults", "token"), submap(data, "defaults"))
    yield from _git(submap(data, "git"))
    yield from _aliases(models, where)


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
    given = {**defaults, **submap(models, name)}
    draft = submap(given, "speculative").get("draft")
    if not isinstance(draft, str):
        return
    other = {**defaults, **submap(models, draft)}
    if draft not in models:
        why = "the manifest declares no model of that name; write the name of one"
    elif draft == name:
        why = "it is the model itself; name a smaller one with the same tokens"
    elif given.get("pooling", "auto") != "auto":
        why = "the model makes no text; remove it"
    elif other.get("pooling", "auto") != "auto":
        why = "it makes no text; name another model"
    elif submap(other, "speculative").get("draft") is not None:
        why = f"it has a draft itself; write 'speculative: {{}}' at {show(draft)}, or name another model"
    else:
        return
    own = "speculative" in submap(models, name)
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
    own = submap(model, "benchmark")
    for key, why in against_each_other({**submap(defaults, "benchmark"), **own}):
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


def _aliases(models: dict[str, Any], where: Where) -> Iterator[Finding]:
    owners: dict[str, Path] = {name: ("models", name) for name in models}
    for name in models:
        for index, alias in _texts(submap(models, name), "aliases"):
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
