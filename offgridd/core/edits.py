"""What an edit of the manifest changes, and what of it is held back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from offgridd.core.adapters import loading
from offgridd.core.challenge import differ, kept_as
from offgridd.core.desired import Desired, HubSource, ModelSpec, RemoteSource, Source
from offgridd.core.keys import source_key


def hold_back(before: Desired, after: Desired) -> Desired:
    """`after`, but what is suspended stays as it was `before`; all of it, where the server is suspended.

    What has to prove itself first is a challenger, and the model stays what it was.

    At the first manifest there is nothing to hold on to, and it is as declared. A model that did not change is the
    very object that it was, so that whoever looks at all of them sees at once which did.
    """
    if before.generation == 0:
        return after
    after = _same(before, after)
    whole = after.server.suspend
    names = [*before.models, *(n for n in after.models if n not in before.models)] if whole else list(after.models)
    models: dict[str, ModelSpec] = {}
    challengers: dict[str, ModelSpec] = {}
    for name in names:
        old, new = before.models.get(name), after.models.get(name)
        if old is not None and (whole or (new is not None and new.suspend)):
            models[name] = replace(old, suspend=True)
        elif old is not None and new is not None and new.holds and differ(old, new):
            models[name], challengers[name] = kept_as(old, new), _known(before.challengers.get(name), new)
        elif new is not None and not whole:
            models[name] = new
    held = [
        n for n in names
        if n not in challengers and models.get(n) is not after.models.get(n) and not _alike(models, after.models, n)
    ]  # fmt: skip
    return replace(after, models=models, held=tuple(held), challengers=challengers)


def _known(before: ModelSpec | None, now: ModelSpec) -> ModelSpec:
    return before if before is not None and before == now else now


def take(desired: Desired, name: str, spec: ModelSpec) -> Desired:
    """`desired` once the challenger of a model was judged; as it was, where that is another one by now."""
    if desired.challengers.get(name) != spec:
        return desired
    challengers = {other: one for other, one in desired.challengers.items() if other != name}
    return replace(desired, models={**desired.models, name: spec}, challengers=challengers)


def _same(before: Desired, after: Desired) -> Desired:
    models = {
        name: old if (old := before.models.get(name)) == spec and old is not None else spec
        for name, spec in after.models.items()
    }
    return replace(after, models=models)


def _alike(some: Mapping[str, ModelSpec], others: Mapping[str, ModelSpec], name: str) -> bool:
    """But for being suspended."""
    return _plain(some.get(name)) == _plain(others.get(name))


def _plain(spec: ModelSpec | None) -> ModelSpec | None:
    return replace(spec, suspend=False) if spec else None


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit does to one model, in the order of what it costs."""

    model: str
    kind: Literal["remove", "add", "verify", "reload", "live"]


def changes(before: Desired, after: Desired) -> tuple[Change, ...]:
    """What differs, by model. A changed source is verified, and the worker replaced where the bytes are others."""
    found: list[Change] = []
    for name in sorted({*before.models, *after.models}):
        old, new = before.models.get(name), after.models.get(name)
        if new is None:
            found.append(Change(name, "remove"))
        elif old is None:
            found.append(Change(name, "add"))
        elif source_key(old) != source_key(new):
            found.append(Change(name, "verify"))
        elif loading(old) != loading(new):
            found.append(Change(name, "reload"))
        elif old != new:
            found.append(Change(name, "live"))
    return tuple(found)


def ranked_otherwise(before: Desired, after: Desired) -> tuple[str, ...]:
    """The models that get or give room by other rules now."""
    whole = before.server.memory != after.server.memory

    def rank(spec: ModelSpec | None) -> object:
        return (spec.priority, spec.preload, spec.pin) if spec else None

    return tuple(n for n, spec in after.models.items() if whole or rank(before.models.get(n)) != rank(spec))


def judged_otherwise(before: Desired, after: Desired) -> tuple[str, ...]:
    """The models of which something else is to be judged now, or by other limits: a verdict on it says nothing more."""
    return tuple(
        name
        for name in {*before.challengers, *after.challengers}
        if _contest(before.challengers.get(name)) != _contest(after.challengers.get(name))
    )


def _contest(spec: ModelSpec | None) -> object:
    return (source_key(spec), loading(spec), spec.benchmark) if spec else None


def reached_otherwise(before: Desired, after: Desired) -> tuple[str, ...]:
    """The models whose files are asked for in another way now, so that what failed before is worth another try."""
    whole = (before.server.offline, before.store) != (after.server.offline, after.store)

    def way(source: Source) -> object:
        return (source.endpoint, source.token) if isinstance(source, HubSource) else source

    def ways(spec: ModelSpec | None) -> list[object]:
        found = [spec.source, *(one.source for one in spec.load.adapters)] if spec else []
        return [way(source) for source in found if isinstance(source, RemoteSource)]

    return tuple(
        name
        for name, spec in after.models.items()
        if (ways(spec) or ways(after.challengers.get(name)))
        and (
            whole
            or ways(before.models.get(name)) != ways(spec)
            or ways(before.challengers.get(name)) != ways(after.challengers.get(name))
        )
    )
