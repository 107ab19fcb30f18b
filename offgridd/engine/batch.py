"""What the next decode holds: a pure scheduler. `__main__` runs its steps and tells it what came of them.

One sequence runs at a time; the others wait in a bounded queue that takes clients in turn. Prompts are fed so that a
request alone gives the library's own answer: multiples of GRID first, the rest in a decode of its own.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

GRID = 64  # rows from which attention takes its tiled path: chunks of multiples of it are bit-identical
QUEUE_LIMIT = 64


@dataclass(slots=True)
class Sequence:
    """A request inside the engine. `tokens` is prompt and answer; `done` of them are in the cache."""

    id: int
    client: str
    tokens: list[int]
    prompt: int  # how many of `tokens` are the prompt
    limit: int  # most tokens of answer
    done: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One decode: `tokens` at positions `start`..; logits are wanted of the last row when `sample`."""

    sequence: Sequence
    tokens: tuple[int, ...]
    start: int
    sample: bool
    fresh: bool  # the first of its sequence: what the cache holds of another must go


@dataclass(slots=True)
class Batch:
    chunk: int = 512  # most prompt rows of one decode (n_ubatch)
    limit: int = QUEUE_LIMIT
    running: Sequence | None = None
    _waiting: OrderedDict[str, deque[Sequence]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return sum(len(q) for q in self._waiting.values()) + (self.running is not None)

    @property
    def waiting(self) -> int:
        return sum(len(q) for q in self._waiting.values())

    def submit(self, sequence: Sequence) -> bool:
        """Queues it; False when the queue is full."""
        if self.waiting >= self.limit:
            return False
        self._waiting.setdefault(sequence.client, deque()).append(sequence)
        return True

    def abort(self, request: int) -> Sequence | None:
        """Takes a request out wherever it is, and returns it; None when it is not here."""
        if self.running and self.running.id == request:
            gone, self.running = self.running, None
            return gone
        for client, queue in list(self._waiting.items()):
            found = next((s for s in queue if s.id == request), None)
            if found is not None:
                queue.remove(found)
                if not queue:
                    del self._waiting[client]
                return found
        return None

    def next(self) -> Step | None:
        """The next decode, None when there is nothing to do. The same again until `decoded` says it was done."""
        if self.running is None and not self._admit():
            return None
        sequence = self.running
        assert sequence is not None
        left = len(sequence.tokens) - sequence.done
        rows = min(self.chunk, left // GRID * GRID) or left
        tokens = tuple(sequence.tokens[sequence.done : sequence.done + rows])
        return Step(sequence, tokens, sequence.done, sample=rows == left, fresh=sequence.done == 0)

    def decoded(self, step: Step) -> None:
        """The decode of `step` is in the cache."""
        step.sequence.done += len(step.tokens)

    def sampled(self, sequence: Sequence, token: int) -> None:
        """`token` goes on the sequence and into its next decode."""
        sequence.tokens.append(token)

    def finish(self, sequence: Sequence) -> None:
        if self.running is sequence:
            self.running = None

    def _admit(self) -> bool:
        """Takes the longest waiting client's first request; the client then stands at the end of the line."""
        if not self._waiting:
            return False
        client, queue = self._waiting.popitem(last=False)
        self.running = queue.popleft()
        if queue:
            self._waiting[client] = queue
        return True
