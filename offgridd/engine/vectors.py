"""What becomes of the numbers that a model makes of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offgridd.engine.wire import Vectors

Floats = NDArray[np.float32]
FRAME = 1 << 20  # bytes of vectors in one frame, unless one alone has more


def shown(vector: Floats, pooling: str, dimensions: int | None) -> Floats | None:
    """As requests get it: of length 1, cut before that where it is cut; a score as it is. None: it is no number.

    Vectors of nothing but zeros stay so.
    """
    if not np.isfinite(vector).all():
        return None
    if pooling == "rank":
        return vector
    wide = vector[:dimensions].astype(np.float64)
    norm = float(np.sqrt((wide * wide).sum()))
    return (wide / norm).astype(np.float32) if norm > 0 else wide.astype(np.float32)


def frames(request: int, found: Sequence[tuple[int, Floats]]) -> list[Vectors]:
    """Index and vector of each, in frames of a bounded size."""
    if not found:
        return []
    each = max(1, FRAME // (4 * len(found[0][1])))
    pieces = [found[at : at + each] for at in range(0, len(found), each)]
    return [
        Vectors(request, tuple(index for index, _ in piece), b"".join(v.astype("<f4").tobytes() for _, v in piece))
        for piece in pieces
    ]
