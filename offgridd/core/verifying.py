"""Which files `offgrid verify` looks at, and what each must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from offgridd.core.adapters import with_adapters_of
from offgridd.core.desired import ModelSpec, RemoteSource
from offgridd.core.hub import Pin
from offgridd.core.naming import file_name
from offgridd.core.observed import Observed
from offgridd.core.plan import current_pin, standing_failure

Verdict = Literal["ok", "changed", "missing", "unreadable"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A file of one or more models. `path` None: a blob of the store. `sha256` None: there is nothing to look at.

    `why` then says why not.
    """

    file: str
    sha256: str | None
    models: tuple[str, ...]
    path: str | None = None
    size: int = 0  # bytes, as it was
    why: str = ""


def subjects(specs: Iterable[ModelSpec], observed: Observed, pins: Mapping[str, Pin]) -> list[Subject]:
    """The files of these models and their adapters, each once, in the order in which they come first."""
    found: dict[tuple[str | None, str | None, str], Subject] = {}
    for spec in (one for model in specs for one in with_adapters_of({model.name: model}).values()):
        for one in _of(spec, observed, pins.get(spec.name)):
            key = (one.path, one.sha256, "" if one.sha256 else spec.name)
            known = found.get(key)
            found[key] = one if known is None else replace(known, models=(*known.models, spec.name))
    return list(found.values())


def _of(spec: ModelSpec, observed: Observed, pinned: Pin | None) -> list[Subject]:
    facts, models = observed.of(spec.name), (spec.name,)
    if isinstance(spec.source, RemoteSource):
        pin = current_pin(spec, facts) or pinned
        if pin is not None:
            return [Subject(f.path, f.sha256, models, size=f.size) for f in pin.files]
    elif facts.file is not None:
        return [Subject(p.path, p.sha256, models, p.path, p.identity.size) for p in facts.file.parts]
    failure = standing_failure(spec, facts, observed.engine)
    why = failure.message if failure else "it is not known yet which file it is, or what it hashes to"
    return [Subject(file_name(spec.source) or spec.name, None, models, why=why)]


def overdue(read: Mapping[str, float], every: float, now: float) -> str | None:
    """Of models and when each was read whole last, the one that is due for longest; `every` seconds, 0 = never.

    What was read in the future was read under a clock that was wrong, and is due.
    """
    ages = {name: now - at if at <= now else float("inf") for name, at in read.items()}
    name = max(ages, key=lambda one: ages[one], default=None)
    return name if name is not None and every and ages[name] >= every else None
