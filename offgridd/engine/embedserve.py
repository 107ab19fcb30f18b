"""The loop of an embedding model or reranker, as `serve` is of models for text: take, decode, send. One thread owns it.

Nothing is kept between requests, so that there is little to do: what arrives is tokenised already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from offgridd.engine import wire
from offgridd.engine.embed import Job, Jobs, Piece
from offgridd.engine.inbox import Arrival, Asked, Inbox, Item, queue_full
from offgridd.engine.inputs import InputPreparer, Texts
from offgridd.engine.link import Link
from offgridd.engine.meter import Meter
from offgridd.engine.port import Aborted, Encoder, Passage
from offgridd.engine.usage import Usage
from offgridd.engine.vectors import Floats, frames, shown
from offgridd.engine.wire import Abort, Admitted, Bench, CacheLimit, Finish, Gauges, Placed, Refused, Score
from offgridd.failpoints import drag

REPORT = 1.0  # seconds between two reports while there is work


class EmbedEngine:
    """`load`: what the daemon asked for; it computes with so many `threads`."""

    def __init__(
        self, model: Encoder, preparer: InputPreparer, link: Link, load: wire.Load, threads: int, usage: Usage
    ) -> None:
        self._model, self._link, self._usage, self._threads, self._key = model, link, usage, threads, load.key
        self._jobs = Jobs(model.slots, model.splits)
        self._inbox = Inbox(link, preparer, model.abort, model.arm)
        self._arrived: dict[int, float] = {}  # monotonic seconds, of those that wait
        self._meter, self._reported = Meter(), 0.0

    def run(self, closed: Callable[[], None]) -> None:
        """Serves until the daemon is gone; then `closed` ends the process."""
        self._inbox.open(closed)
        while True:
            idle = len(self._jobs) == 0
            self._report(due=idle)
            for item in self._inbox.take(wait=idle):
                self._handle(item)
            if pieces := self._jobs.next():
                self._do(pieces)

    def _handle(self, item: Item) -> None:
        match item:
            case Arrival(asked, Texts() as texts):
                self._queue(asked, texts)
            case Arrival(asked):
                self._end(asked.id, "abort")
            case Refused():
                self._meter.ended("refused")
                self._link.send(item)
            case Abort(request):
                job = self._jobs.find(request)
                if job is None:
                    self._inbox.forget(request)
                else:
                    self._remove(job)
                    self._end(request, "abort", job.total)
            case Bench() | Score():
                text = "cannot measure it: benchmarks are of models for text, and this one makes vectors or scores"
                self._link.send(Refused(item.id, 400, "unsupported_model", text, "model"))
            case CacheLimit():
                pass  # nothing is kept

    def _queue(self, asked: Asked, texts: Texts) -> None:
        assert isinstance(asked.chat, wire.Embed)
        job = Job.of(asked.id, asked.client, texts.tokens, asked.chat.dimensions)
        if not self._jobs.put(job):
            self._meter.ended("refused")
            self._link.send(queue_full(asked.id))
            return
        self._arrived[asked.id] = asked.at
        self._link.send(Admitted(asked.id, job.total))

    def _do(self, pieces: tuple[Piece, ...]) -> None:
        """One decode and what comes of it."""
        self._begin(pieces)
        requests = {piece.job.id for piece in pieces}
        passages = [Passage(p.input.slot, p.input.done, p.tokens, p.last) for p in pieces]
        began = time.monotonic()
        try:
            with self._inbox.decoding(requests.pop() if len(requests) == 1 else None):
                made = self._model.encode(passages)
        except Aborted:
            for passage in passages:
                self._model.drop(passage.slot)
            self._jobs.undo(pieces)
            return  # the Abort is in the inbox
        drag("engine.step", self._key, time.monotonic() - began)
        self._meter.stepped(sum(piece.count for piece in pieces), 0)
        whole = self._jobs.computed(pieces)
        self._send(pieces, made)
        for job in whole:
            if job.id in self._arrived:
                self._end(job.id, "stop", job.total)

    def _begin(self, pieces: tuple[Piece, ...]) -> None:
        new = tuple(dict.fromkeys(piece.job.id for piece in pieces if not piece.job.began))
        if new:
            now = time.monotonic()
            for request in new:
                self._meter.spreads["queue"].add(now - self._arrived[request])
            self._link.send(Placed(new))

    def _send(self, pieces: tuple[Piece, ...], made: Sequence[Floats | None]) -> None:
        by: dict[int, tuple[Job, list[tuple[int, Floats]]]] = {}
        for piece, vector in zip(pieces, made, strict=True):
            job = piece.job
            if vector is None or job.id not in self._arrived:
                continue
            found = shown(vector, self._model.pooling, job.dimensions)
            if found is None:
                self._break(job, piece.input.index)
                by.pop(job.id, None)
            else:
                by.setdefault(job.id, (job, []))[1].append((piece.input.index, found))
        for job, ready in by.values():
            for frame in frames(job.id, ready):
                self._link.send(frame)

    def _break(self, job: Job, index: int) -> None:
        """Its request ends with an error."""
        if job.left:
            self._remove(job)
        del self._arrived[job.id]
        self._meter.ended("error")
        text = f"cannot answer: what the model makes of input {index} are no finite numbers; the file may be damaged"
        self._link.send(Refused(job.id, 500, "not_finite", text))

    def _remove(self, job: Job) -> None:
        slot = self._jobs.remove(job)
        if slot is not None:
            self._model.drop(slot)

    def _end(self, request: int, reason: str, tokens: int = 0) -> None:
        self._arrived.pop(request, None)
        self._meter.ended(reason)
        self._link.send(Finish(request, reason, tokens, 0))

    def _report(self, *, due: bool) -> None:
        now = time.monotonic()
        if not due and now - self._reported < REPORT:
            return
        self._reported, begun, memory = now, self._jobs.begun, self._usage.look()
        gauges = Gauges(begun, len(self._jobs) - begun, 0, 0, 0, 0, self._threads,
                        memory.own, self._usage.peak, memory.mapped)  # fmt: skip
        self._link.send(self._meter.take(gauges))
