"""What the next decodes hold: a pure scheduler. `serve` runs its steps and tells it what came of them.

A step is a list of decodes: first one with the next token of every running sequence, then one with prompt rows; all of
sequences with the same adapters, since the library computes a decode with one set of them. Sets take turns. Prompt
rows are as many as fit the step-time target while others wait for tokens, and as many as the library takes at once
otherwise. A request alone is fed so that it gives the library's own answer: multiples of GRID, the rest by itself. What
comes behind a cached prefix, which ends anywhere, has no such answer to give and goes in as few decodes as it fits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from offgridd.engine.cells import Cells
from offgridd.engine.fair import FairQueue
from offgridd.engine.prefix import common
from offgridd.engine.sequence import Decode, Rows, Sequence
from offgridd.engine.slots import gathered, place
from offgridd.engine.turns import Turns

GRID = 64  # rows from which attention takes its tiled path: chunks of multiples of it are bit-identical
LEAST = 16  # prompt rows of a decode: fewer cost nearly as much
QUEUE_LIMIT = 96  # requests that wait, of which one client may have 64
SLACK = 32  # cells that a parked sequence waits for beyond its own, so that it does not leave again at once
TARGET = 0.2  # seconds that a step with prompt rows may take while others wait for their next token
ALONE = 2.0  # seconds that a step may take while nobody waits for a token: somebody may come
MOVABLE = 1024  # tokens of a sequence that moves to another slot
FEW, MOST = 96, 0.6  # so many rows may take up to so many seconds


@dataclass(slots=True)
class Batch:
    """`slots` sequences at once in `cells` cells; `chunk` is the most rows of one decode (n_ubatch).

    `follows`: a sequence can take its beginning from a running one; `copies`: in cells of its own.
    """

    slots: int = 1
    cells: int = 1 << 30
    chunk: int = 512
    follows: bool = True
    copies: bool = False
    waiting: FairQueue[Sequence] = field(default_factory=lambda: FairQueue(QUEUE_LIMIT))
    running: list[Sequence] = field(default_factory=list)  # oldest first
    parked: deque[Sequence] = field(default_factory=deque)  # out of the context for want of cells, oldest first
    guesses: Callable[[list[Sequence], int], Mapping[int, list[int]]] | None = None  # what may come next
    row_seconds: float = 0.0  # what a prompt row takes, measured; 0 = not known yet
    _cells: Cells = field(default_factory=Cells)
    _turns: Turns = field(default_factory=Turns)
    _rests: Turns = field(default_factory=Turns)  # of steps without prompt rows: nobody loses a turn by those
    _taking: Turns = field(default_factory=Turns)  # which of both the present step is of
    _settled: tuple[dict[int, int], list[int]] | None = None  # slots among which nobody has to move
    _pause: int = 0  # steps without prompt rows that are still owed to the running sequences

    def __len__(self) -> int:
        return len(self.waiting) + len(self.running) + len(self.parked)

    @property
    def used(self) -> int:
        """Cells that hold something or are promised to a prompt, so that none stops for want of them half-way."""
        return self._cells.used + sum(max(0, s.prompt - max(s.done, s.share)) for s in self.running)

    def remove(self, request: int) -> Sequence | None:
        """Takes a request out wherever it is, and returns it, its slot unchanged; None when it is not here."""
        for where in (self.running, self.parked):
            found = next((s for s in where if s.id == request), None)
            if found is not None:
                where.remove(found)
                self._cells.drop(request)
                return found
        return self.waiting.remove(request)

    def resume(self) -> Sequence | None:
        """The parked sequence that comes back now, in a slot; the caller brings its cells back."""
        if not self.parked:
            return None
        sequence = self.parked[0]
        if self.running and not self._room(max(sequence.done, sequence.prompt) + SLACK):
            return None
        self.parked.popleft()
        if sequence.done:
            self._cells.grow(sequence.id, sequence.done)
        return self._place(sequence)

    def admit(self) -> Sequence | None:
        """The waiting sequence that begins now, in a slot; `lead` it then. Whoever was parked comes first."""
        first = None if self.parked or len(self.running) == self.slots else self.waiting.first()
        if first is None or not self._room(first.prompt - self._leader_of(first)[1] + 1):
            return None
        return self._place(self.waiting.take())

    def lead(self, sequence: Sequence, stored: int) -> int:
        """Where the beginning of its prompt comes from: 0 = from a leader or nowhere, else so many `stored` tokens.

        At least one token is always computed: its logits are wanted.
        """
        leader, share = self._leader_of(sequence)
        if leader is not None and share >= max(stored, LEAST):
            sequence.leader, sequence.share = leader, share
            return 0
        stored = min(stored, sequence.prompt - 1)
        return stored if stored >= LEAST else 0

    def took(self, sequence: Sequence, count: int) -> None:
        """Its first `count` tokens are in the cache: brought back from where they were stored."""
        self._cells.grow(sequence.id, count)
        sequence.done = sequence.cached = count

    def followers(self) -> tuple[list[tuple[Sequence, Sequence, int]], list[Sequence]]:
        """Who takes how much from whom now (sequence, leader, tokens), and who has lost the leader and begins anew."""
        ready: list[tuple[Sequence, Sequence, int]] = []
        lost: list[Sequence] = []
        for s in self.running:
            if s.leader is None:
                continue
            if s.leader not in self.running:
                s.leader, s.share = None, 0
                lost.append(s)
            elif s.leader.done >= s.share:
                ready.append((s, s.leader, s.share))
                if self.copies:
                    self._cells.grow(s.id, s.share)
                else:
                    self._cells.share(s.leader.id, s.id, s.share)
                s.done = s.cached = s.share
                s.leader, s.share = None, 0
        return ready, lost

    def moves(self) -> list[tuple[Sequence, int]]:
        """Who moves to another slot, and its old one, so that the slots of a set lie side by side.

        Long ones stay where they are: with a large model moving one would hold up all others.
        """
        fixed = [s.slot for s in self.running if s.done > MOVABLE]
        moved: list[tuple[Sequence, int]] = []
        if (now := (self._taken(), fixed)) == self._settled:
            return moved
        for adapters in sorted({s.adapters for s in self.running}):
            by_slot = {s.slot: s for s in self.running}
            for old, new in gathered(self._taken(), adapters, self.slots, fixed):
                moved.append((by_slot[old], old))
                by_slot[old].slot = new
        self._settled = now if not moved else None
        return moved

    def next(self) -> tuple[Decode, ...]:
        """The decodes of the next step; empty when there is nothing to do."""
        ready = [s for s in self.running if not s.waits]
        waited = any(s.left == 1 for s in ready)
        resting = waited and self._pause > 0
        self._taking = self._rests if resting else self._turns
        adapters = self._taking.take({s.wears for s in ready if s.left == 1 or not resting})
        going = [s for s in ready if s.left == 1 and s.wears == adapters]
        guesses = self.guesses(going, self._spare(len(going))) if self.guesses is not None else {}
        tokens = [Rows(s, s.done, 1, sample=True, guess=tuple(guesses.get(s.id, ()))) for s in going]
        prompts = [s for s in ready if s.left > 1]
        decodes = [Decode(tuple(tokens), prompt=False, adapters=adapters)] if tokens else []
        if prompts and resting:
            self._pause -= 1
        elif mine := [s for s in prompts if s.wears == adapters]:
            rows = self._prompt_rows(mine, alone=len(self.running) == 1, waited=waited)
            decodes.append(Decode(rows, prompt=True, adapters=adapters))
        return tuple(decodes)

    def decoded(self, decode: Decode, seconds: float) -> None:
        """The rows of `decode` are in the cache; it took so long."""
        self._taking.took(seconds)
        for rows in decode.rows:
            rows.sequence.done += rows.count + len(rows.guess)
            self._cells.grow(rows.sequence.id, rows.count + len(rows.guess))
        if decode.prompt and len(decode) >= LEAST:
            row = seconds / len(decode)
            self.row_seconds = row if not self.row_seconds else 0.75 * self.row_seconds + 0.25 * row
            self._pause = max(0, round(seconds / MOST) - 1)

    def cut(self, sequence: Sequence, length: int) -> None:
        """The cache holds only so many of its tokens from now on: what was guessed was wrong."""
        self._cells.shrink(sequence.id, sequence.done - length)
        sequence.done = length

    def park(self) -> Sequence | None:
        """Takes the youngest that holds cells out of its slot, for want of them; None when that would leave nobody.

        Its slot is unchanged: the caller takes its cells away, and `resume` gives it another.
        """
        if len(self.running) < 2:
            return None
        holding = [s for s in self.running if s.done]
        sequence = holding[-1] if len(holding) > 1 else next(s for s in reversed(self.running) if not s.done)
        self.running.remove(sequence)
        sequence.leader, sequence.share, sequence.coming = None, 0, False
        self._cells.drop(sequence.id)
        self.parked.appendleft(sequence)
        return sequence

    def _spare(self, going: int) -> int:
        """Rows and cells that are left for guesses. None while somebody waits for cells, or for a prompt's turn."""
        if self.parked or self.waiting or len(self.running) > going:
            return 0
        return max(0, min(self.chunk - going, self.cells - self.used - 2 * len(self.running)))

    def _prompt_rows(self, prompts: list[Sequence], *, alone: bool, waited: bool) -> tuple[Rows, ...]:
        """The least that is left first: short prompts do not wait for long ones. LEAST always for the oldest."""
        budget = self._budget() if waited else self._chunk_alone()
        made: list[Rows] = []
        kept = LEAST if len(prompts) > 1 and budget >= 2 * LEAST else 0  # for the oldest
        for s in sorted(prompts, key=lambda s: (s.left, s is not prompts[0])):
            count = min(budget if s is prompts[0] else budget - kept, s.stretch)
            if count >= GRID and ((alone and not s.cached) or (count < s.stretch and not waited)):
                count -= count % GRID
            if count <= 0:
                continue
            made.append(Rows(s, s.done, count, sample=count == s.left))
            budget -= count
            kept = 0 if s is prompts[0] else kept
            if budget < max(LEAST, kept):
                break
        return tuple(made)

    def _chunk_alone(self) -> int:
        """On the grid, where pieces of any length give the same bits."""
        if not self.row_seconds:
            return self.chunk
        rows = int(min(self.chunk, ALONE / self.row_seconds))
        return max(rows - rows % GRID, min(GRID, self.chunk))

    def _budget(self) -> int:
        """Prompt rows that take TARGET seconds. FEW of them may take up to MOST: each row of fewer costs more."""
        if not self.row_seconds:
            return GRID
        rows = max(TARGET / self.row_seconds, min(FEW, MOST / self.row_seconds))
        return min(max(int(rows), LEAST), self.chunk)

    def _leader_of(self, sequence: Sequence) -> tuple[Sequence | None, int]:
        """The running sequence whose tokens begin alike for longest, and for how long."""
        best, most, wanted = None, 0, sequence.keys()
        for s in self.running if self.follows else ():
            alike = min(common(s.keys(), wanted), sequence.prompt - 1)
            if alike > most and not s.waits_for(sequence):
                best, most = s, alike
        return best, most

    def _room(self, cells: int) -> bool:
        """Whether a sequence may begin that needs so many cells now; the running ones keep one for their next token."""
        return len(self.running) < self.slots and self.used + len(self.running) + cells <= self.cells

    def _place(self, sequence: Sequence) -> Sequence:
        sequence.slot = place(self._taken(), sequence.adapters, self.slots)
        self.running.append(sequence)
        return sequence

    def _taken(self) -> dict[int, int]:
        return {s.slot: s.adapters for s in self.running}
