"""Which inputs the next decode of an embedding model holds: a pure scheduler. `embedserve` runs what it says.

Attention walks over all rows of a decode, so that a few short inputs are computed together and long ones by themselves.
Clients take turns: each decode begins with another one's next input, and what is left of it is filled with inputs of
the others, one of each in turn. An input that is longer than a decode is computed in pieces, where the model can, and
others come between them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from offgridd.core.purpose import FILL, SEQUENCES

SLOTS = SEQUENCES - 1  # inputs of a decode
QUEUE_LIMIT = 96  # requests that wait, of which one client may have 64


@dataclass(slots=True, eq=False)
class Input:
    """One text of a request; the first `done` of its tokens are computed."""

    request: int
    index: int
    tokens: list[int]
    done: int = 0
    slot: int = -1  # the library's sequence id, -1 while it waits

    @property
    def left(self) -> int:
        return len(self.tokens) - self.done


@dataclass(slots=True, eq=False)
class Job:
    """A request: its inputs that are not made yet, the shortest first. `total`: tokens of all."""

    id: int
    client: str
    left: deque[Input]
    total: int
    dimensions: int | None = None
    began: bool = False

    @classmethod
    def of(cls, request: int, client: str, inputs: list[list[int]], dimensions: int | None = None) -> Job:
        found = [Input(request, index, tokens) for index, tokens in enumerate(inputs)]
        shortest = sorted(found, key=lambda one: len(one.tokens))
        return cls(request, client, deque(shortest), sum(map(len, inputs)), dimensions)


@dataclass(frozen=True, slots=True)
class Piece:
    """The next `count` tokens of an input, which belongs to `job`."""

    job: Job
    input: Input
    count: int

    @property
    def tokens(self) -> list[int]:
        return self.input.tokens[self.input.done : self.input.done + self.count]

    @property
    def last(self) -> bool:
        return self.count == self.input.left


@dataclass
class Jobs:
    """`splits`: an input may be computed in pieces. `fill`: rows up to which inputs are put together."""

    slots: int = SLOTS
    splits: bool = False
    fill: int = FILL
    _clients: OrderedDict[str, deque[Job]] = field(default_factory=OrderedDict)  # in the order of their turns
    _long: Input | None = None  # the one that is computed in pieces: it keeps its slot between decodes

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    @property
    def begun(self) -> int:
        """Requests of which something was computed."""
        return sum(job.began for jobs in self._clients.values() for job in jobs)

    def put(self, job: Job) -> bool:
        """False where too many wait, or this client has two thirds of them."""
        mine = len(self._clients.get(job.client, ()))
        if len(self) >= QUEUE_LIMIT or mine * 3 >= QUEUE_LIMIT * 2:
            return False
        self._clients.setdefault(job.client, deque()).append(job)
        return True

    def next(self) -> tuple[Piece, ...]:
        """The pieces of the next decode; empty when there is nothing to do. Their inputs have slots then."""
        queues = deque((client, _inputs(jobs)) for client, jobs in self._clients.items())
        if self.slots == 1 and self._long is not None:  # nothing is computed beside what others have in the cache
            queues = deque((one, jobs) for one, jobs in queues if one == self._holder())
        made: list[Piece] = []
        budget, held = self.fill, int(self._long is not None)
        while queues and len(made) + held < max(self.slots, 1 + held):
            client, waiting = queues.popleft()
            job, one = next(waiting, (None, None))
            if job is None or one is None or not (count := self._count(one, budget, first=not made)):
                continue  # nothing of this client any more: what comes next is longer
            if not made:
                self._clients.move_to_end(client)
            made.append(Piece(job, one, count))
            budget -= count
            held -= one is self._long
            if budget <= 0:
                break
            queues.append((client, waiting))
        self._place(made)
        return tuple(made)

    def computed(self, pieces: tuple[Piece, ...]) -> list[Job]:
        """The pieces are done. Which requests have all their vectors now."""
        whole: list[Job] = []
        for piece in pieces:
            piece.job.began = True
            last = piece.last
            piece.input.done += piece.count
            self._long = piece.input if not last else None if piece.input is self._long else self._long
            if last:
                piece.input.slot = -1
                piece.job.left.remove(piece.input)
                if not piece.job.left:
                    whole.append(piece.job)
        for job in whole:
            self._drop(job)
        return whole

    def undo(self, pieces: tuple[Piece, ...]) -> None:
        """The pieces were broken off, and what was computed of their inputs before is gone, too."""
        for piece in pieces:
            piece.input.done, piece.input.slot = 0, -1
            self._long = None if piece.input is self._long else self._long

    def find(self, request: int) -> Job | None:
        return next((job for jobs in self._clients.values() for job in jobs if job.id == request), None)

    def remove(self, job: Job) -> int | None:
        """Takes a request out; the slot that something of it is left in."""
        self._drop(job)
        if self._long is None or self._long.request != job.id:
            return None
        slot, self._long = self._long.slot, None
        return slot

    def _count(self, one: Input, budget: int, *, first: bool) -> int:
        """How many of its tokens this decode computes; 0 = none now."""
        if one.left <= budget:
            return one.left
        if not first:
            return 0
        if not self.splits:
            return one.left
        return budget if self._long in (None, one) else 0  # another one's pieces are to be computed first

    def _holder(self) -> str:
        """Whose input is computed in pieces."""
        long = self._long
        return next(c for c, jobs in self._clients.items() if any(long is one for _, one in _inputs(jobs)))

    def _place(self, pieces: list[Piece]) -> None:
        taken = {self._long.slot} if self._long is not None else set[int]()
        free = (slot for slot in range(self.slots + 1) if slot not in taken)
        for piece in pieces:
            if piece.input.slot < 0:
                piece.input.slot = next(free)

    def _drop(self, job: Job) -> None:
        jobs = self._clients[job.client]
        jobs.remove(job)
        if not jobs:
            del self._clients[job.client]


def _inputs(jobs: deque[Job]) -> Iterator[tuple[Job, Input]]:
    return ((job, one) for job in jobs for one in job.left)
