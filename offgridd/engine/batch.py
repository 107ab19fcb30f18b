"""What the next decodes hold: a pure scheduler. `serve` runs its steps and tells it what came of them.

A step is a list of decodes: first one with the next token of every running sequence, then one with prompt rows. Prompt
rows are as many as fit the step-time target while others wait for tokens, and as many as the library takes at once
otherwise. A request alone is fed so that it gives the library's own answer: multiples of GRID, the rest by itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

GRID = 64  # rows from which attention takes its tiled path: chunks of multiples of it are bit-identical
LEAST = 16  # prompt rows of a decode: fewer cost nearly as much
QUEUE_LIMIT = 64
SLACK = 32  # cells that a parked sequence waits for beyond its own, so that it does not leave again at once
TARGET = 0.2  # seconds that a step with prompt rows may take while others wait for their next token


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside the engine. `tokens` is prompt and answer; the first `done` of them are in the cache."""

    id: int
    client: str
    tokens: list[int]
    prompt: int  # how many of `tokens` are the prompt
    limit: int  # most tokens of answer
    done: int = 0
    slot: int = -1  # the library's sequence id, -1 while it waits

    @property
    def left(self) -> int:
        """Tokens that are not in the cache: 1 while it runs, more while its prompt is computed."""
        return len(self.tokens) - self.done

    @property
    def cells(self) -> int:
        """What it takes up: its whole prompt from the start, so that no prompt stops for want of cells half-way."""
        return max(self.done, self.prompt)

    def __repr__(self) -> str:
        return f"Sequence({self.id}, slot {self.slot}, {self.done}/{len(self.tokens)} of which prompt {self.prompt})"


@dataclass(frozen=True, slots=True)
class Rows:
    """Part of a decode: the next `count` tokens of a sequence; `sample`: they reach its end, logits are wanted."""

    sequence: Sequence
    start: int
    count: int
    sample: bool

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.start : self.start + self.count]


@dataclass(frozen=True, slots=True)
class Decode:
    """What the library computes at once. `prompt`: it holds prompt rows, and none of running sequences."""

    rows: tuple[Rows, ...]
    prompt: bool

    def __len__(self) -> int:
        return sum(r.count for r in self.rows)


@dataclass(slots=True)
class Batch:
    """`slots` sequences at once in `cells` cells; `chunk` is the most rows of one decode (n_ubatch)."""

    slots: int = 1
    cells: int = 1 << 30
    chunk: int = 512
    limit: int = QUEUE_LIMIT
    running: list[Sequence] = field(default_factory=list)  # oldest first
    parked: deque[Sequence] = field(default_factory=deque)  # out of the context for want of cells, oldest first
    row_seconds: float = 0.0  # what a prompt row takes, measured; 0 = not known yet
    _waiting: OrderedDict[str, deque[Sequence]] = field(default_factory=OrderedDict)
    _pause: int = 0  # steps without prompt rows that are still owed to the running sequences

    def __len__(self) -> int:
        return self.waiting + len(self.running) + len(self.parked)

    @property
    def waiting(self) -> int:
        return sum(len(q) for q in self._waiting.values())

    @property
    def used(self) -> int:
        """Cells that hold something or are promised to a prompt."""
        return sum(s.cells for s in self.running)

    def submit(self, sequence: Sequence) -> bool:
        """Queues it; False when the queue is full."""
        if self.waiting >= self.limit:
            return False
        self._waiting.setdefault(sequence.client, deque()).append(sequence)
        return True

    def remove(self, request: int) -> Sequence | None:
        """Takes a request out wherever it is, and returns it, its slot unchanged; None when it is not here."""
        for place in (self.running, self.parked):
            found = next((s for s in place if s.id == request), None)
            if found is not None:
                place.remove(found)
                return found
        for client, queue in list(self._waiting.items()):
            found = next((s for s in queue if s.id == request), None)
            if found is not None:
                queue.remove(found)
                if not queue:
                    del self._waiting[client]
                return found
        return None

    def resume(self) -> Sequence | None:
        """The parked sequence that comes back now, in a slot; the caller brings its cells back."""
        if not self.parked or (self.running and not self._room(self.parked[0].cells + SLACK)):
            return None
        return self._place(self.parked.popleft())

    def admit(self) -> Sequence | None:
        """The waiting sequence that begins now, in a slot. Whoever was parked comes first."""
        if self.parked or not self._waiting:
            return None
        client, queue = next(iter(self._waiting.items()))
        if not self._room(queue[0].cells + 1):
            return None
        del self._waiting[client]
        sequence = queue.popleft()
        if queue:
            self._waiting[client] = queue  # its next request stands at the end of the line
        return self._place(sequence)

    def next(self) -> tuple[Decode, ...]:
        """The decodes of the next step; empty when there is nothing to do. The same again until `decoded`."""
        tokens = [Rows(s, s.done, 1, sample=True) for s in self.running if s.left == 1]
        prompts = [s for s in self.running if s.left > 1]
        decodes = [Decode(tuple(tokens), prompt=False)] if tokens else []
        if prompts and tokens and self._pause:
            self._pause -= 1
        elif prompts:
            decodes.append(Decode(self._prompt_rows(prompts, alone=len(self.running) == 1, waited=bool(tokens)), True))
        return tuple(decodes)

    def decoded(self, decode: Decode, seconds: float) -> None:
        """The rows of `decode` are in the cache; it took so long."""
        for rows in decode.rows:
            rows.sequence.done += rows.count
        if decode.prompt and len(decode) >= LEAST:
            row = seconds / len(decode)
            self.row_seconds = row if not self.row_seconds else 0.75 * self.row_seconds + 0.25 * row
            self._pause = max(0, round(seconds / TARGET) - 1)

    def park(self) -> Sequence | None:
        """Takes the youngest out of its slot, for want of cells; None when that would leave nobody.

        Its slot is unchanged: the caller takes its cells away, and `resume` gives it another.
        """
        if len(self.running) < 2:
            return None
        sequence = self.running.pop()
        self.parked.appendleft(sequence)
        return sequence

    def _prompt_rows(self, prompts: list[Sequence], *, alone: bool, waited: bool) -> tuple[Rows, ...]:
        budget = self._budget() if waited else self.chunk
        made: list[Rows] = []
        for s in prompts:
            count = min(budget, s.left)
            if count >= GRID and (alone or count < s.left):
                count -= count % GRID
            made.append(Rows(s, s.done, count, sample=count == s.left))
            budget -= count
            if budget < LEAST:
                break
        return tuple(made)

    def _budget(self) -> int:
        """Prompt rows that take TARGET seconds, on the grid where that is possible."""
        rows = int(TARGET / self.row_seconds) if self.row_seconds else GRID
        rows = min(max(rows, LEAST), self.chunk)
        return rows - rows % GRID if rows >= GRID else rows

    def _room(self, cells: int) -> bool:
        """Whether a sequence may begin that needs so many cells now; the running ones keep one for their next token."""
        return len(self.running) < self.slots and self.used + len(self.running) + cells <= self.cells

    def _place(self, sequence: Sequence) -> Sequence:
        taken = {s.slot for s in self.running}
        sequence.slot = next(i for i in range(self.slots) if i not in taken)
        self.running.append(sequence)
        return sequence
