"""What of the store nobody needs any more: inventory, references and rules -> a verdict on each thing.

Pure: `effects.garbage` looks, counts and removes. What is not known to be of no use stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from offgridd.core.adapters import with_adapters_of
from offgridd.core.challenge import challenger_name
from offgridd.core.desired import Desired, ModelSpec, UrlSource
from offgridd.core.hub import Pin
from offgridd.core.observed import Observed

QUARANTINE = 86400.0  # seconds that a file which was put away is kept for people to look at
KEPT = "kept/"  # how the names of pins begin that no manifest has

Kind = Literal["blob", "partial", "quarantine", "note"]
Origin = Literal["declared", "kept", "adopted", "unknown"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of the store. `size`: bytes that are free without it.

    `age` in seconds: of a blob how long nothing has referred to it while the daemon ran; of anything else since it was
    put there. `origin` is what a blob's note says.
    """

    kind: Kind
    name: str  # a sha256; of a copy that is being made another name
    size: int = 0
    age: float = 0.0
    origin: Origin = "unknown"
    regular: bool = True  # a file, not a link or a folder
    title: str = ""  # for people; text of a hub


@dataclass(frozen=True, slots=True)
class Rules:
    """`grace`: seconds that a blob stays when nothing refers to it. `empty`: nothing is declared and may go for it."""

    grace: float
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason`: one CamelCase word, why it goes or stays. `left`: seconds until it may go, where that is known."""

    item: Item
    goes: bool
    reason: str
    left: float | None = None


def rules_of(desired: Desired) -> Rules:
    return Rules(desired.store.grace, not desired.models and not desired.store.allow_empty)


def judge(items: Iterable[Item], references: Mapping[str, str], rules: Rules) -> tuple[Verdict, ...]:
    """A verdict on each, in their order. `references`: why a sha256 is needed, as `referred` says."""
    return tuple(_judge(item, references.get(item.name), rules) for item in items)


def freed(verdicts: Iterable[Verdict]) -> int:
    """Bytes that are free when all goes that may."""
    return sum(v.item.size for v in verdicts if v.goes)


def _judge(item: Item, needed: str | None, rules: Rules) -> Verdict:
    stays = _why_it_stays(item, needed, rules)
    if stays is not None:
        return Verdict(item, False, *stays)
    if rules.empty:
        return Verdict(item, False, "NothingDeclared")
    why = {"blob": "Unreferenced", "partial": "Ownerless", "quarantine": "Old", "note": "NoBlob"}
    return Verdict(item, True, why[item.kind])


def _why_it_stays(item: Item, needed: str | None, rules: Rules) -> tuple[str, float | None] | None:
    if not item.regular:
        return "NotAFile", None
    if item.kind == "quarantine":
        return None if item.age > QUARANTINE else ("Recent", QUARANTINE - item.age)
    if needed is not None:
        return needed, None
    if item.kind != "blob":
        return None
    match item.origin:
        case "declared":
            return None if item.age > rules.grace else ("Grace", rules.grace - item.age)
        case "kept":
            return "Kept", None
        case "adopted":
            return "Adopted", None
        case "unknown":
            return "OriginUnknown", None


def referred(
    desired: Desired, observed: Observed, pins: Mapping[str, Pin], busy: Collection[str] = ()
) -> dict[str, str]:
    """Why each sha256 is needed: `Declared` by a model, `Kept` for itself, or `InUse`.

    `busy`: sha256s that work goes on with: files on their way, and those of live workers.
    """
    found: dict[str, str] = {}
    for name, spec in _declared(desired).items():
        named = [spec.sha256] if isinstance(spec.source, UrlSource) else []
        for pin in (spec.lock, pins.get(name), observed.of(name).pin):
            named += [f.sha256 for f in pin.files] if isinstance(pin, Pin) else []
        found.update((sha256, "Declared") for sha256 in named if sha256)
    for name, pin in pins.items():
        if name.startswith(KEPT):
            for file in pin.files:
                found.setdefault(file.sha256 or "", "Kept")
    verified = {one for facts in observed.models.values() if facts.file for one in facts.file.sha256s}
    for sha256 in (*verified, *busy):
        found.setdefault(sha256, "InUse")
    return found


def _declared(desired: Desired) -> dict[str, ModelSpec]:
    """The models, what waits to be judged, and the adapters of both, by their names."""
    waiting = (replace(spec, name=challenger_name(name)) for name, spec in desired.challengers.items())
    both = {spec.name: spec for spec in (*desired.models.values(), *waiting)}
    return with_adapters_of(both)


def counted(
    idle: Mapping[str, float], blobs: Iterable[str], references: Collection[str], passed: float
) -> dict[str, float]:
    """How long nothing has referred to each of `blobs`, after `passed` more seconds; one that is new begins at 0."""
    return {sha256: idle[sha256] + passed if sha256 in idle else 0.0 for sha256 in blobs if sha256 not in references}
