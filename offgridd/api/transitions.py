"""The conditions that changed, numbered: for /v1/events, and for the journal, which keeps them over restarts.

As JSON, which is half as large as objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile

import msgspec

from offgridd.core.condition import Condition

KEPT = 8192  # a thousand models at their first look


class Transitions:
    """`count`: the number that the next one gets."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self.count = 0

    def add(self, time: str, model: str | None, condition: Condition) -> None:
        """`condition` has its status since `time`; no model: it is of the whole."""
        seen = {"number": self.count, "time": time, "model": model, "type": condition.type, "status": condition.status,
                "reason": condition.reason, "message": condition.message}  # fmt: skip
        self._kept.append((self.count, msgspec.json.encode(seen)))
        self.count += 1

    def since(self, number: int) -> list[tuple[int, bytes]]:
        """Those from `number` on, as far as they are kept: their numbers, and JSON."""
        newer = takewhile(lambda one: one[0] >= number, reversed(self._kept))
        return list(newer)[::-1]

    def recall(self, earlier: Sequence[tuple[int, bytes]]) -> None:
        """Those of earlier lives of the daemon, the oldest first.

        A kill may have lost the newest, whose numbers somebody has seen: no number is given twice.
        """
        self._kept.extend(earlier)
        self.count = earlier[-1][0] + 1 + KEPT if earlier else 0
