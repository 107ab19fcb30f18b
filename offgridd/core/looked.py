"""What was found out of a model's file, fetched or not."""

from __future__ import annotations

from dataclasses import dataclass

from offgridd.core.hub import Pin
from offgridd.core.observed import ModelHeader


@dataclass(frozen=True, slots=True)
class Looked:
    """`size`: bytes of all its files; `pin`: what a hub's source was found to mean; `here`: they are on this host."""

    header: ModelHeader
    size: int
    pin: Pin | None = None
    here: bool = True
