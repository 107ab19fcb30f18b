"""What an edit of the manifest changes, and what of it is held back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from offgridd.core.desired import Desired, HubSource, ModelSpec, RemoteSource
from offgridd.core.keys import source_key


def hold_back(before: Desired, after: Desired) -> Desired:
    """`after`, but what is suspended stays as it was `before`; all of it, where the server is suspended.

    At the first manifest there is nothing to hold on to, and it is as declared.
    """
    if before.generation == 0:
        return after
    whole = after.server.suspend
    names = [*before.models, *(n for n in after.models if n not in before.models)] if whole else list(after.models)
    models: dict[str, ModelSpec] = {}
    for name in names:
        old, new = before.models.get(name), after.models.get(name)
        if old is not None and (whole or (new is not None and new.suspend)):
            models[name] = replace(old, suspend=True)
        elif new is not None and not whole:
            models[name] = new
    plain = {name: replace(spec, suspend=False) for name, spec in models.items()}
    held = [n for n in names if plain.get(n) != _plain(after.models.get(n))]
    return replace(after, models=models, held=tuple(held))


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
        elif old.load != new.load:
            found.append(Change(name, "reload"))
        elif old != new:
            found.append(Change(name, "live"))
    return tuple(found)


def reached_otherwise(before: Desired, after: Desired) -> tuple[str, ...]:
    """The models whose files are asked for in another way now, so that what failed before is worth another try."""
    whole = (before.server.offline, before.store) != (after.server.offline, after.store)

    def way(spec: ModelSpec | None) -> object:
        source = spec.source if spec else None
        return (source.endpoint, source.token) if isinstance(source, HubSource) else source

    return tuple(
        name
        for name, spec in after.models.items()
        if isinstance(spec.source, RemoteSource) and (whole or way(before.models.get(name)) != way(spec))
    )
