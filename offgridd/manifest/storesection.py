"""The section `store`: how files are fetched, kept and let go."""

from __future__ import annotations

from typing import Literal

from offgridd.core.desired import StoreSpec
from offgridd.manifest.fields import CacheSize, LeastRate, LongDuration, Pause, Section, Size, live


class Store(Section):
    """How files are fetched and kept."""

    max_total: Size | None = live(None, "The most that all fetched files may take together.")
    min_free: CacheSize = live(StoreSpec().min_free, "What the file system keeps free, whatever is fetched.")
    rate: Size | None = live(None, "Bytes a second that fetching a file may take. Default: as fast as it goes.")
    connections: int = live(StoreSpec().connections, "Connections for each file.", ge=1, le=32)
    min_rate: LeastRate = live(
        "1KiB/s over 60s",
        "What a connection has to bring at least; one that brings less is made anew. Where all together bring less for "
        "twice as long, the file waits and is tried again later.",
    )
    grace: LongDuration = live(
        "168h",
        "How long a file stays that was fetched for a model and that nothing refers to any more, counted while the "
        "daemon runs; then `offgrid gc` may remove it.",
    )
    prune: Literal["never", "report", "delete"] = live(
        "report",
        "What is done by itself about what `offgrid gc` would remove: nothing, saying in status how much it is, or "
        "removing it. What was pulled or adopted only `offgrid rm` removes.",
    )
    verify_every: Pause = live(
        "720h",
        "How long after its last reading a model is read again, slowly, and held against its sha256, at least 1s; 0s: "
        "never.",
    )
    allow_empty: bool = live(False, "Let such files be removed also where no model is declared.")
