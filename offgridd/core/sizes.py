"""Sizes as people read them."""

from __future__ import annotations

RESERVE = 100_000_000  # bytes that are reckoned for any worker and its helpers, whatever they turn out to take


def show_size(count: int) -> str:
    """Bytes in decimal units, as hubs and `max_size: 5GB` have them: `4.92 GB`, `812 MB`, `90 bytes`."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
