"""Which slot a sequence has: those that are computed together lie side by side, where they can. Pure.

With a buffer a sequence the library computes a row of each in one go only where their slots follow each other, and
otherwise piece by piece. What is computed together wears the same adapters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Taken = Mapping[int, int]  # by slot, the set of who has it


def place(taken: Taken, wears: int, slots: int) -> int:
    """A free slot: near those of the same set, or, for the first one of a set, far from all others."""
    free = [slot for slot in range(slots) if slot not in taken]
    own = [slot for slot, worn in taken.items() if worn == wears]
    if own:
        return min(free, key=lambda slot: min(abs(slot - other) for other in own))
    return max(free, key=lambda slot: min((abs(slot - other) for other in taken), default=-slot))


def gathered(taken: Taken, wears: int, slots: int, fixed: Iterable[int]) -> list[tuple[int, int]]:
    """The fewest moves after which those of a set lie side by side, from slot to slot; none where that can not be.

    Nobody moves out of one of the `fixed` slots, and nobody of another set moves.
    """
    own = sorted(slot for slot, worn in taken.items() if worn == wears)
    stay, best = set(fixed), list[tuple[int, int]]()
    if not own or own[-1] - own[0] < len(own):
        return best
    for first in range(slots - len(own) + 1):
        window = range(first, first + len(own))
        room = [slot for slot in window if slot not in taken]
        leave = [slot for slot in own if slot not in window]
        possible = len(room) == len(leave) and not stay.intersection(leave)
        if possible and (not best or len(leave) < len(best)):
            best = list(zip(leave, room, strict=True))
    return best
