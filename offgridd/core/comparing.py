"""Two manifests side by side, for whoever reviews the one that is to come: what each model costs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from offgridd.core.desired import Desired, ModelSpec
from offgridd.core.edits import Change, changes
from offgridd.core.hub import Pin
from offgridd.core.sizes import show_size

COSTS = {
    "add": "is added",
    "remove": "drains and stops",
    "verify": "its file is found and verified, and its worker replaced where the bytes are others",
    "reload": "its worker is replaced",
    "live": "nothing: the same worker goes on",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One model. `bytes` that are fetched, as the lock says; None where it does not."""

    change: Change
    fields: tuple[str, ...]  # that differ
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    models: tuple[Row, ...]
    server: tuple[str, ...]  # fields that differ
    store: tuple[str, ...]

    @property
    def empty(self) -> bool:
        return not (self.models or self.server or self.store)


def compare(before: Desired, after: Desired) -> Comparison:
    """What differs between two manifests, whatever any machine has of them."""
    here = {f.sha256 for spec in before.models.values() if isinstance(spec.lock, Pin) for f in spec.lock.files}
    rows = []
    for change in changes(before, after):
        old, new = before.models.get(change.model), after.models.get(change.model)
        names = _differing(old, new) if old is not None and new is not None else ()
        size = None
        if new is not None and change.kind in ("add", "verify") and isinstance(new.lock, Pin):
            size = sum(f.size for f in new.lock.files if f.sha256 not in here)
        rows.append(Row(change, names, size))
    return Comparison(tuple(rows), _differing(before.server, after.server), _differing(before.store, after.store))


def as_markdown(found: Comparison, title: str) -> str:
    """For a comment on a pull request."""
    if found.empty:
        return f"### {title}\n\nNo changes.\n"
    lines = [f"### {title}", ""]
    if found.models:
        lines += ["| model | change | fields | what it costs | to fetch |", "| --- | --- | --- | --- | --- |"]
    for row in found.models:
        kind = row.change.kind
        cells = (f"`{row.change.model}`", kind, _quoted(row.fields), COSTS[kind], _size(row))
        lines.append("| " + " | ".join(cells) + " |")
    for what, differing in (("server", found.server), ("store", found.store)):
        lines += ["", f"`{what}`: {_quoted(differing)} (live)"] if differing else []
    return "\n".join(lines) + "\n"


def as_text(found: Comparison) -> list[str]:
    lines = [
        f"{row.change.kind:<8} {row.change.model}: {', '.join(row.fields) or COSTS[row.change.kind]}"
        + (f"; {_size(row)} to fetch" if row.bytes else "")
        for row in found.models
    ]
    lines += [f"server   {', '.join(found.server)}"] if found.server else []
    return lines + ([f"store    {', '.join(found.store)}"] if found.store else [])


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _size(row: Row) -> str:
    if row.bytes is None:
        return "not known: no lock" if row.change.kind in ("add", "verify") else ""
    return show_size(row.bytes) if row.bytes else "nothing"


NAMES = {"cache_ram": "cache.ram", "cache_disk": "cache.disk", "persist": "cache.persist"}


def _differing(old: object, new: object) -> tuple[str, ...]:
    """Names of fields, as the manifest has them where they lie deeper."""
    found: list[str] = []
    for field in fields(old):  # type: ignore[arg-type]
        one, other = getattr(old, field.name), getattr(new, field.name)
        if one == other:
            continue
        deeper = isinstance(old, ModelSpec) and field.name in ("load", "sampling")
        if deeper or field.name == "placement":
            found += _differing(one, other)
        else:
            found.append(NAMES.get(field.name, field.name))
    return tuple(found)
