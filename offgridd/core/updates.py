"""Whether a hub has something newer than what a model is pinned to: when to look, and what is made of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from offgridd.core.desired import HubSource, ModelSpec
from offgridd.core.hub import HubFailure, Pin, RepoTree
from offgridd.core.keys import stable_key

FIRST = 600.0  # seconds until what was just pinned is looked at; it was new a moment ago
MEASURED_FIRST = "name the newer revision of its adapter in the manifest, which is measured first"
AGAIN = 3600.0  # seconds until a look that failed is tried again, at most
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Look:
    """What a hub had when it was asked. `of`: `look_key` of the pin that it was held against.

    `at` is in seconds since the epoch; `newer` is what would be taken now, where that is something else.
    """

    of: str
    at: float
    commit: str = ""
    newer: Pin | None = None
    failure: HubFailure | None = None
    rejected: str = ""  # why `newer`, which was tried by itself, is not taken


def look_key(pin: Pin) -> str:
    """What a look is at: the question, and the contents of the files that it was found to mean."""
    return stable_key(pin.key, _contents(pin))


def is_other(found: Pin, pin: Pin) -> bool:
    """Whether what would be taken now are other contents: the same ones may have another name."""
    return _contents(found) != _contents(pin)


def _contents(pin: Pin) -> list[str | None]:
    return [f.sha256 for f in pin.files]


def why_fixed(spec: ModelSpec) -> str:
    """Why nothing newer can be meant; "" where something can."""
    if not isinstance(spec.source, HubSource) or spec.sha256 is not None:
        return "its sha256 is declared"
    if spec.source.revision and _COMMIT.fullmatch(spec.source.revision):
        return "its commit is declared"
    return ""


def why_not(spec: ModelSpec, *, suspended: bool) -> str:
    """Why a model is not to be pinned to something newer; "" where it may be."""
    if spec.lock is not None:
        return f"a lock says what it is: run offgrid lock --update {spec.name}"
    if spec.adapter_of is not None and spec.holds:
        return f"{spec.adapter_of} is held to its benchmark: {MEASURED_FIRST}"
    return "it is suspended" if suspended or spec.suspend else why_fixed(spec)


def has_moved(pin: Pin, tree: RepoTree) -> bool:
    """Whether one of the pinned files is another one at `tree`, or is no more. Another commit alone is nothing."""
    there = {f.path: f.sha256 for f in tree.files}
    return any(there.get(f.path) != f.sha256 for f in pin.files)


def current_look(pin: Pin, look: Look | None) -> Look | None:
    """The look, if it was at what is pinned now."""
    return look if look and look.of == look_key(pin) else None


def still_rejected(look: Look, before: Look | None) -> Look:
    """`look`; where it found what an earlier one had found, and what was tried since, with the verdict on that."""
    same = before and before.rejected and before.newer and look.newer and before.of == look.of
    if same and before and before.newer and look.newer and not is_other(look.newer, before.newer):
        return replace(look, rejected=before.rejected)
    return look


def due_at(spec: ModelSpec, pin: Pin, look: Look | None, since: float, now: float) -> float | None:
    """When to look (seconds since the epoch), None for never; `since`: when this pin was seen first in this life.

    A look in the future was taken under a clock that was wrong.
    """
    if spec.updates == "manual" or why_fixed(spec):
        return None
    known = current_look(pin, look)
    if known is None or known.at > now:
        return since + min(FIRST, spec.check_every)
    return known.at + (min(AGAIN, spec.check_every) if known.failure else spec.check_every)
