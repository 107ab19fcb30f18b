"""How many threads compute: all while the machine is free, fewer when others take the processor. Pure.

Threads wait for each other after every node of the graph. Where one of them is not running, because another process
has its core, all wait, and fewer threads are faster. So while our threads have to queue for a core, another count is
tried for some steps and the faster one kept. While fewer than all compute, all are tried again and again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TRIAL = 8  # steps that a count is judged by
BUSY, QUIET = 0.15, 0.05  # shares of the time that our threads queue for a core, above and below which others are there
FIRST_REST, LONGEST_REST = 0.5, 3.0  # seconds between two trials
ALIKE = (
    0.75  # steps are compared where their rows differ by less than this ratio, as they do while requests come and go
)
STEP_ROWS = 3  # so many rows' time a step takes besides its rows
MARGIN = 0.97  # a count must take less than this share of the other's time to replace it


@dataclass(slots=True)
class Threads:
    """`most` is the count for a quiet machine, and the only one where they do not adapt; `now` is what to use."""

    most: int
    adaptive: bool = True
    now: int = 0
    _times: list[float] = field(default_factory=list)  # seconds a row of the newest steps, with one count
    _rows: int = 0
    _kept: tuple[int, float] | None = None  # while another count is tried: the one before, and its seconds in a trial
    _rest: float = FIRST_REST
    _next_trial: float = 0.0
    _tries: int = -1  # trials so far, but for those of all threads

    def __post_init__(self) -> None:
        self.now = self.now or self.most

    @property
    def _alone(self) -> bool:
        """There is one count only."""
        return not self.adaptive or self.most == 1

    def seeking(self, queued: float, at: float) -> bool:
        """Whether steps are compared now, or should be: those that come must be plain ones."""
        due = (queued > BUSY or self.now < self.most) and at >= self._next_trial
        return not self._alone and (due or self._kept is not None)

    def stepped(self, rows: int, seconds: float, queued: float, at: float) -> None:
        """A decode of a token for each of `rows` sequences took so long; what comes of it shows in `now`.

        `queued` is the share of the time that a thread of ours wanted a core and had none, lately; `at` is the time
        (monotonic seconds).
        """
        if self._alone:
            return
        if not ALIKE * self._rows <= rows <= self._rows / ALIKE:
            self._begin_anew(rows)
        self._times = [*self._times[1 - TRIAL :], seconds / (rows + STEP_ROWS)]
        if self._kept is not None:
            self._judge(at)
        elif (queued > BUSY or self.now < self.most) and len(self._times) == TRIAL and at >= self._next_trial:
            self._kept = (self.now, sum(self._times))
            # Quiet may be the machine, or what fewer threads have made of it: only a trial tells.
            self.now, self._times = self.most if queued < QUIET else self._other(), []

    def _begin_anew(self, rows: int) -> None:
        """What was measured with another number of rows says nothing now; a trial is broken off."""
        self._rows, self._times = rows, []
        if self._kept is not None:
            self.now, self._kept = self._kept[0], None

    def _other(self) -> int:
        """The next count to try: somewhat fewer, half, and more in turn. One too many can be as bad as all."""
        now = self.now
        ways = (now - max(1, now // 4), now // 2, now + max(1, now // 3))
        counts = [count for count in ways if 1 <= count <= self.most]
        self._tries += 1
        return counts[self._tries % len(counts)]

    def _judge(self, at: float) -> None:
        """Ends a trial once it is long enough, or hopeless."""
        assert self._kept is not None
        count, before = self._kept
        taken = sum(self._times)
        if len(self._times) < TRIAL and taken < 2 * before:
            return
        better = len(self._times) == TRIAL and taken < MARGIN * before
        self._rest = FIRST_REST if better else min(2 * self._rest, LONGEST_REST)
        if not better:
            self.now = count
        self._kept, self._times, self._next_trial = None, [], at + self._rest
