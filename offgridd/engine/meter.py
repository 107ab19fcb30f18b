"""What the worker measures of itself: totals since the last report, and how long things took. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from offgridd.engine.wire import BOUNDS, Gauges, Spread, Stats, Timings

SPREADS = ("queue", "prefill", "first_token", "inter_token")


class Histogram:
    def __init__(self) -> None:
        self._counts, self._total = [0] * (len(BOUNDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def taken(self) -> Spread:
        """What was added, and begins anew."""
        spread = Spread(tuple(self._counts), self._total)
        self._counts, self._total = [0] * (len(BOUNDS) + 1), 0.0
        return spread


@dataclass(slots=True)
class Stopwatch:
    """One request's times, in monotonic seconds. `arrived` is when its frame came; None = not yet."""

    arrived: float
    placed: float | None = None  # had a slot
    first: float | None = None  # had its first token
    last: float = 0.0  # had its newest token
    longest_gap: float = 0.0

    def token(self, now: float) -> float | None:
        """A token was made; the seconds since the one before, None for the first."""
        if self.first is None:
            self.first = self.last = now
            return None
        gap, self.last = now - self.last, now
        self.longest_gap = max(self.longest_gap, gap)
        return gap

    def timings(self) -> Timings | None:
        if self.placed is None or self.first is None:
            return None
        return Timings(self.placed - self.arrived, self.first - self.placed, self.last - self.first, self.longest_gap)


@dataclass(slots=True)
class Meter:
    steps: int = 0
    step_rows: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    shelf_hits: int = 0
    guessed: int = 0
    held: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    spreads: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in SPREADS})

    def stepped(self, prompt: int, tokens: int) -> None:
        """A decode was done, of so many rows of prompts and so many tokens of answers."""
        self.prompt_tokens += prompt
        self.steps += tokens > 0
        self.step_rows += tokens

    def token(self, watch: Stopwatch, now: float) -> None:
        gap = watch.token(now)
        if gap is not None:
            self.spreads["inter_token"].add(gap)
            return
        assert watch.placed is not None
        self.spreads["queue"].add(watch.placed - watch.arrived)
        self.spreads["prefill"].add(now - watch.placed)
        self.spreads["first_token"].add(now - watch.arrived)

    def ended(self, reason: str, cached: int = 0) -> None:
        self.ends[reason] = self.ends.get(reason, 0) + 1
        self.cached_tokens += cached

    def checked(self, guessed: int, held: int) -> None:
        self.guessed += guessed
        self.held += held

    def take(self, now: Gauges) -> Stats:
        """The report, with what is `now`; everything counts from zero again."""
        spreads = {name: histogram.taken() for name, histogram in self.spreads.items()}
        stats = Stats(
            now, self.steps, self.step_rows, self.prompt_tokens, self.cached_tokens, self.ends, spreads,
            self.shelf_hits, self.guessed, self.held,
        )  # fmt: skip
        self.steps = self.step_rows = self.prompt_tokens = self.cached_tokens = 0
        self.shelf_hits = self.guessed = self.held = 0
        self.ends = {}
        return stats
