"""What the engine's loop asks of a measurement: a `Bench` or a `Score` under way. It is alone in the batch."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol

from offgridd.engine.port import Model
from offgridd.engine.sequence import Rows, Sequence
from offgridd.engine.wire import Bench, Measured, Score, Scored


class Measurement(Protocol):
    """`sequences` are what is computed; their numbers are negative: those of requests are positive."""

    sequences: list[Sequence]

    @property
    def asked(self) -> Bench | Score: ...
    @property
    def done(self) -> bool: ...
    def every(self, rows: Rows) -> bool:
        """Whether it wants to see what each of these rows gives, not only the last one."""

    def took(self, rows: Items[Rows], model: Model, began: float, now: float) -> list[Sequence]:
        """A decode was done, from `began` to `now` (monotonic seconds). Which of its sequences are whole now."""

    def result(self, why: str, threads: int, own_peak: int, mapped: int) -> Measured | Scored:
        """What came of it; `why` it was broken off, or nothing. Bytes are the worker's."""
