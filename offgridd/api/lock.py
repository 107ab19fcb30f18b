"""POST /v1/lock: a manifest and its old lock -> the new lock. Nothing is written: who asked does that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import anyio
import anyio.to_thread
from quart import Quart, Response

from offgridd.api import body
from offgridd.api.answers import answer
from offgridd.api.context import Context
from offgridd.api.crowd import AT_ONCE, check_crowd
from offgridd.api.search import hub_refused
from offgridd.api.texts import files_of
from offgridd.core.adapters import with_adapters_of
from offgridd.core.desired import HUB, Desired, HubSource, ModelSpec
from offgridd.core.errors import Failure, ManifestError, RequestRefused
from offgridd.core.hub import HUB_TROUBLE, HubFailure
from offgridd.core.locking import Lock, LockEntry, wanting
from offgridd.manifest import accept_files, is_lock, read_lock, write_lock


def add_lock(app: Quart, ctx: Context) -> None:
    locking = anyio.CapacityLimiter(AT_ONCE)

    @app.post("/v1/lock")
    async def lock() -> Response:
        given = await body.read_json()
        check_crowd(locking, "lock")
        async with locking:
            return await _lock(ctx, given)


async def _lock(ctx: Context, given: Mapping[str, Any]) -> Response:
    files, update = files_of(given), given.get("update", False)
    desired, old = await anyio.to_thread.run_sync(_read, files)
    specs = wanting(desired.models, old, _updated(update, desired.models))
    for spec in specs:
        _check_reach(ctx, spec)
    memory = desired.server.memory if given.get("for_this_host") is True else None
    found = await ctx.locker.entries(specs, memory)
    new = _joined(desired.models, old, found)
    text = await anyio.to_thread.run_sync(write_lock, new)
    return answer({"lock": text, "models": len(new), "changes": [*_changes(old, new)]})


def _read(files: list[tuple[str, bytes]]) -> tuple[Desired, Lock]:
    """The manifest, and its lock as it is. Raises RequestRefused."""
    old = next(((name, text) for name, text in files[1:] if is_lock(name)), None)
    try:
        desired = accept_files(files).desired
        if desired.git is not None:
            text = (
                "cannot lock: 'git' says that the models stand in a repository; run offgrid lock in a work tree of it"
            )
            raise RequestRefused(422, "ConflictingFields", text)
        return desired, read_lock(*old) if old else {}
    except ManifestError as error:
        text = "cannot lock: " + "; ".join(str(p) for p in error.problems)
        raise RequestRefused(422, error.reason, text) from error


def _updated(update: object, models: Mapping[str, ModelSpec]) -> Collection[str]:
    """The models that are asked for in any case. Raises RequestRefused."""
    if isinstance(update, bool):
        return tuple(models) if update else ()
    if not isinstance(update, list) or not all(isinstance(name, str) for name in update):
        text = "cannot lock: update must be true, false, or a list of models"
        raise RequestRefused(400, "invalid_value", text, param="update")
    known = with_adapters_of(models)
    for name in update:
        meant = with_adapters_of({name: known[name]}) if name in known else {}
        if not any(isinstance(one.source, HubSource) for one in meant.values()):
            text = f"cannot update {name[:64]!r}: the manifest declares no model of a hub by that name"
            raise RequestRefused(404, "model_not_found", text, param="update")
    return update


def _check_reach(ctx: Context, spec: ModelSpec) -> None:
    """A manifest that anybody may send must neither take a secret of this host to a server nor have us call on one."""
    assert isinstance(spec.source, HubSource)
    declared = with_adapters_of(ctx.desired.models).values()
    ours = [s.source for s in declared if isinstance(s.source, HubSource)]
    known = {(s.endpoint, s.token) for s in ours} | {(ctx.desired.endpoint, ctx.desired.token), (HUB, None)}
    asked = (spec.source.endpoint, spec.source.token)
    if ctx.private or asked in known or (ctx.admin and spec.source.token is None):
        return
    what = f"asks {spec.source.endpoint}" + (" with its token" if spec.source.token else "")
    text = f"cannot lock {spec.name}: no model of the daemon's own manifest {what}; declare one there first"
    raise RequestRefused(403, "not_declared", text)


def _joined(models: Mapping[str, ModelSpec], old: Lock, found: Mapping[str, LockEntry | Failure]) -> Lock:
    """The entries of all models of a hub. Raises RequestRefused where one could not be found: half a lock is none."""
    new: dict[str, LockEntry] = {}
    for name, spec in with_adapters_of(models).items():
        entry = found.get(name, old.get(name))
        if isinstance(entry, Failure):
            text = f"cannot lock {name}: {entry.message}"
            if entry.reason in HUB_TROUBLE:
                raise hub_refused(HubFailure(entry.reason, text))
            raise RequestRefused(409, entry.reason, text)
        if isinstance(spec.source, HubSource) and entry is not None:
            new[name] = entry
    return new


def _changes(old: Lock, new: Lock) -> Iterable[dict[str, Any]]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        action = "remove" if after is None else "add" if before is None else "update"
        yield {"model": name, "action": action, "from": before and _shown(before), "to": after and _shown(after)}


def _shown(entry: LockEntry) -> dict[str, Any]:
    return {"repo": entry.asked.repo, "commit": entry.commit, "quant": entry.quant, "size": entry.size,
            "files": [f.path for f in entry.files], "sha256": [f.digest for f in entry.files]}  # fmt: skip
