"""Where the states of sequences are: in the context, parked in host memory, or kept there as finished prefixes.

The batch decides who has a slot; here the states follow. Nothing of a state is lost on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import Protocol

from offgridd.engine.batch import LEAST, Batch
from offgridd.engine.port import Memory, Model, OutOfCells
from offgridd.engine.prefix import Piece, Tree
from offgridd.engine.sequence import Rows, Sequence
from offgridd.engine.shelf import Shelf
from offgridd.engine.shelffile import Saved
from offgridd.engine.shelfindex import Link
from offgridd.engine.snapshots import Snapshots

PATIENCE = 10.0  # seconds that a request waits for what is read from disk
Bring = Callable[[int, list[Saved]], None]


class Prefixes(Protocol):
    """Finished prefixes within a budget of bytes."""

    budget: int

    @property
    def held(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    def length(self, tokens: Items[int]) -> int: ...
    def match(self, tokens: Items[int]) -> list[Piece]: ...
    def insert(self, tokens: Items[int], start: int, state: bytes) -> None: ...
    def resize(self, budget: int) -> None: ...


def prefixes_for(memory: Memory, budget: int) -> Prefixes:
    return Snapshots(budget) if memory is Memory.WHOLE else Tree(budget)


class States:
    """`budget`: bytes of finished prefixes in host memory; `shelf`: where they also are, None for nowhere else.

    What is read there goes, on another thread, to `bring`, which has to hand it to `brought`.
    """

    def __init__(
        self, model: Model, batch: Batch, budget: int, shelf: Shelf | None = None,
        bring: Bring = lambda _request, _found: None,
    ) -> None:  # fmt: skip
        self._model, self._batch, self._shelf, self._bring = model, batch, shelf, bring
        self._whole = model.memory is Memory.WHOLE
        self._parked: dict[int, bytes] = {}  # by request
        self._coming: dict[int, tuple[Sequence, float]] = {}  # by request; until when it waits, monotonic
        self.prefixes = prefixes_for(model.memory, budget)

    def fill(self) -> list[Sequence]:
        """Fills the slots: with those that were parked, then with those that wait; hands over shared beginnings.

        Returns those that began now.
        """
        began: list[Sequence] = []
        while (sequence := self._batch.resume()) is not None:
            if sequence.done:
                self._model.restore(sequence.slot, [Piece(self._parked.pop(sequence.id), 0, sequence.done)])
            else:
                self._begin(sequence)
        while (sequence := self._batch.admit()) is not None:
            self._begin(sequence)
            began.append(sequence)
        ready, lost = self._batch.followers()
        for sequence, leader, length in ready:
            self._model.share(leader.slot, sequence.slot, length)
        for sequence in lost:
            self._begin(sequence)
        for request in [one for one, (_, until) in self._coming.items() if until < time.monotonic()]:
            self.brought(request, [])
        if self._model.memory is Memory.APART:
            self._close_gaps()
        return began

    @property
    def reading(self) -> bool:
        """Whether somebody waits for what is read from disk."""
        return bool(self._coming)

    def brought(self, request: int, found: Items[Saved]) -> None:
        """What was read for a request, which goes on; where that is nothing, it is computed."""
        sequence, _ = self._coming.pop(request, (None, 0.0))
        if sequence is None:
            return  # it has ended, or did not wait so long
        for saved in found:
            start = self.prefixes.length(saved.tokens)
            if saved.start <= start < len(saved.tokens):
                self.prefixes.insert(saved.tokens, start, saved.state)
        sequence.coming = False
        self._start(sequence, self.prefixes.length(sequence.keys(len(sequence.tokens) - 1)))

    def make_room(self) -> bool:
        """Moves the youngest out of the context. False: there is only one, and it has all the cells."""
        sequence = self._batch.park()
        if sequence is None:
            return False
        self._coming.pop(sequence.id, None)
        if sequence.done:
            self._parked[sequence.id] = self._model.save(sequence.slot, 0, sequence.done)
            self._model.cut(sequence.slot, 0)
        return True

    def undo(self, rows: Rows) -> None:
        """A decode of these rows was aborted: what it did of them is taken back."""
        sequence = rows.sequence
        if self._model.memory is Memory.WHOLE:
            sequence.done = 0
        self._model.cut(sequence.slot, sequence.done)

    def cut(self, sequence: Sequence) -> None:
        """Takes what was guessed and not chosen out of its cache: its newest token is not there yet."""
        length = len(sequence.tokens) - 1
        if sequence.done > length:
            self._batch.cut(sequence, length)
            self._model.cut(sequence.slot, length)

    def release(self, sequence: Sequence) -> None:
        """Takes it out wherever it is; its slot and cells are free, what was computed for it is kept."""
        if sequence in self._batch.running:
            if sequence.kept:
                self._keep(sequence)
            self._model.cut(sequence.slot, 0)
        self._batch.remove(sequence.id)
        self._parked.pop(sequence.id, None)
        self._coming.pop(sequence.id, None)

    def _begin(self, sequence: Sequence) -> None:
        """Finds out where the beginning of its prompt comes from; what is on disk alone is read first."""
        tokens, shelf = sequence.keys(len(sequence.tokens) - 1), self._shelf_of(sequence)
        have, links = self.prefixes.length(tokens) if sequence.kept else 0, list[Link]()
        if shelf is not None and sequence.kept and self.prefixes.budget:
            links = shelf.find(tokens, have, whole=self._whole, room=self.prefixes.budget)
        if shelf is not None and links and self._batch.lead(sequence, links[-1].reach):
            sequence.coming = True
            self._coming[sequence.id] = sequence, time.monotonic() + PATIENCE
            shelf.fetch(links, partial(self._bring, sequence.id), lambda: sequence.id in self._coming)
        else:
            self._start(sequence, have)

    def _shelf_of(self, sequence: Sequence) -> Shelf | None:
        """A file holds tokens, and nothing of adapters."""
        return self._shelf if not sequence.adapters else None

    def _start(self, sequence: Sequence, have: int) -> None:
        """Brings back the first tokens, of which host memory has so many; or they are another one's, or computed."""
        kept = self._batch.lead(sequence, have)
        if not kept:
            return
        try:
            self._model.restore(sequence.slot, self.prefixes.match(sequence.keys(kept)))
        except OutOfCells:
            self._model.cut(sequence.slot, 0)  # then it is computed
        else:
            self._batch.took(sequence, kept)

    def _keep(self, sequence: Sequence) -> None:
        """Only running sequences hold cells: idle ones slow every step, and moving them out costs next to nothing."""
        tokens, state, shelf = sequence.keys(sequence.done), b"", self._shelf_of(sequence)
        start = self.prefixes.length(tokens)
        if not self.prefixes.budget:
            return
        if len(tokens) - start >= LEAST:
            state = self._model.save(sequence.slot, start, len(tokens))
            self.prefixes.insert(tokens, start, state)
        if shelf is None or (lacks := shelf.lacks(tokens, whole=self._whole)) is None:
            return
        if not state or (lacks != start and not self._whole):  # the disk has less than the memory, or more
            state = self._model.save(sequence.slot, lacks, len(tokens))
        shelf.keep(tokens, lacks, state)

    def _close_gaps(self) -> None:
        """With a buffer a sequence the library is fast only where the slots in use lie side by side."""
        for sequence, old in self._batch.moves():
            if not sequence.done:
                continue
            state = self._model.save(old, 0, sequence.done)
            self._model.cut(old, 0)
            self._model.restore(sequence.slot, [Piece(state, 0, sequence.done)])
