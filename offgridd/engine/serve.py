"""The engine's loop: take what arrived, ask the batch for a step, decode, sample, send. One thread owns the model.

Out of cells, the youngest sequence's state moves to host memory and comes back when there is room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from offgridd.engine import wire
from offgridd.engine.answer import Answer
from offgridd.engine.batch import Batch
from offgridd.engine.draft import Draft
from offgridd.engine.drafting import Drafter
from offgridd.engine.grammar import GrammarError
from offgridd.engine.inbox import Arrival, Asked, Brought, Inbox, Item, queue_full
from offgridd.engine.link import Link
from offgridd.engine.measurement import Measurement
from offgridd.engine.meter import Meter, Stopwatch
from offgridd.engine.port import Aborted, Memory, Model, OutOfCells, Part
from offgridd.engine.prepare import Prepared, Preparer
from offgridd.engine.pressure import Pressure
from offgridd.engine.sampling import Sampler
from offgridd.engine.score import reading
from offgridd.engine.sequence import Decode, Rows, Sequence
from offgridd.engine.shelf import Shelf
from offgridd.engine.speculate import Speculator
from offgridd.engine.states import States
from offgridd.engine.text import StreamText
from offgridd.engine.threads import Threads
from offgridd.engine.trial import trial
from offgridd.engine.usage import Usage
from offgridd.engine.wire import Abort, Admitted, Bench, CacheLimit, Finish, Gauges, Placed, Refused, Score, Tokens
from offgridd.failpoints import drag

REPORT = 1.0  # seconds between two reports while there is work


class Engine:
    """`load`: what the daemon asked for; `shelf`: where finished prefixes are kept over restarts; `draft`: guesses."""

    def __init__(
        self, model: Model, preparer: Preparer, link: Link, load: wire.Load, threads: Threads, usage: Usage,
        shelf: Shelf | None = None, draft: Draft | None = None,
    ) -> None:  # fmt: skip
        self._key = load.key
        self._model, self._link, self._threads, self._usage = model, link, threads, usage
        apart = model.memory is Memory.APART  # then no sequence takes cells from another
        cells = (1 << 30) if apart else model.cells
        follows = model.memory is not Memory.WHOLE
        self._batch = Batch(model.slots, cells, model.chunk, follows=follows, copies=apart)
        self._inbox = Inbox(link, preparer, model.abort, model.arm)
        self._shelf, self._states = shelf, States(model, self._batch, load.cache, shelf, self._inbox.bring)
        self._answers: dict[int, Answer] = {}
        self._meter, self._pressure, self._reported = Meter(), Pressure(), 0.0
        self._trial: Measurement | None = None
        drafter = Drafter(draft) if draft is not None else None
        self._speculator = Speculator(drafter, lookup=load.speculative) if load.speculative or drafter else None
        if self._speculator is not None:
            self._batch.guesses = self._guesses

    def run(self, closed: Callable[[], None]) -> None:
        """Serves until the daemon is gone; then `closed` ends the process."""
        self._inbox.open(closed)
        decodes: tuple[Decode, ...] = ()
        while True:
            idle = len(self._batch) == 0
            self._report(due=idle)
            reading = self._states.reading and not decodes  # all that runs waits for the disk
            for item in self._inbox.take(wait=idle or reading, most=REPORT if reading else None):
                self._handle(item)
            self._fill()
            decodes = self._batch.next()
            for decode in decodes:
                if not self._do(decode):
                    break

    def _guesses(self, sequences: list[Sequence], room: int) -> Mapping[int, list[int]]:
        """Nothing is guessed of what is measured, nor while the number of threads is sought."""
        assert self._speculator is not None
        now = time.monotonic()
        if self._trial is not None or self._threads.seeking(self._pressure.look(now), now):
            return {}
        return self._speculator.guesses(sequences, room)

    def _handle(self, item: Item) -> None:
        match item:
            case Arrival(asked, Prepared() as prepared):
                self._end_trial("yielded")
                self._queue(asked, prepared)
            case Arrival(asked):
                if not asked.chat.probe:
                    self._meter.ended("abort")
                self._link.send(Finish(asked.id, "abort", 0, 0))
            case Refused():
                self._meter.ended("refused")
                self._link.send(item)
            case Brought(request, found):
                self._meter.shelf_hits += len(found)
                self._states.brought(request, found)
            case CacheLimit(size, disk):
                self._states.prefixes.resize(size)
                if self._shelf is not None:
                    self._shelf.resize(disk)
            case Bench() | Score():
                self._try(item)
            case Abort(request):
                if self._trial is not None and self._trial.asked.id == request:
                    self._end_trial("aborted")
                elif request in self._answers:
                    self._end(self._answers[request], "abort")
                else:
                    self._inbox.forget(request)

    def _queue(self, asked: Asked, prepared: Prepared) -> None:
        chat, tokens = asked.chat, prepared.tokens
        assert isinstance(chat, wire.Chat)
        left = self._model.context - len(tokens)
        sequence = Sequence(
            chat.id, chat.client, tokens, len(tokens), min(chat.max_tokens or left, left), kept=not chat.probe,
            adapters=prepared.worn.adapters, switch=prepared.worn.switch,
        )  # fmt: skip
        if not self._batch.waiting.put(sequence):
            self._fill()  # many may have come while slots became free
            if not self._batch.waiting.put(sequence):
                self._meter.ended("refused")
                self._link.send(queue_full(chat.id))
                return
        stops = chat.stop if chat.choice != "required" else ()  # half a call is of no use to anybody
        sampler, text = Sampler(chat.sampling, self._model.chain), StreamText(stops)
        self._answers[chat.id] = Answer(chat, sequence, sampler, text, prepared, Stopwatch(asked.at))
        self._link.send(Admitted(chat.id, len(tokens)))

    def _fill(self) -> None:
        began = [sequence for sequence in self._states.fill() if sequence.id in self._answers]
        for sequence in began:
            self._answers[sequence.id].watch.placed = time.monotonic()
        if began:
            self._link.send(Placed(tuple(sequence.id for sequence in began)))

    def _do(self, decode: Decode) -> bool:
        """One decode and what comes of it; False when it did not happen and the step has to be planned anew."""
        rows = decode.rows
        trial, alone = self._trial, rows[0].sequence.id if len(rows) == 1 else None
        parts = [
            Part(r.sequence.slot, r.start, r.tokens, r.sample, bool(r.guess) or (trial is not None and trial.every(r)))
            for r in rows
        ]
        began = time.monotonic()
        try:
            with self._inbox.decoding(trial.asked.id if trial else alone, yields=trial is not None):
                self._model.wear(decode.adapters)
                self._model.decode(parts)
        except Aborted:
            self._end_trial("yielded")
            if trial is None:
                self._states.undo(rows[0])
            return False  # the Abort is in the inbox
        except OutOfCells:
            if trial is not None:
                self._end_trial("out_of_cells")
            else:
                self._make_room()
            return False
        drag("engine.step", self._key, time.monotonic() - began)
        now = time.monotonic()
        self._batch.decoded(decode, now - began)
        if trial is not None:
            self._measure(trial, rows, began, now)
            return True
        counted = [r for r in rows if r.sequence.kept]
        prompt = sum(r.count for r in counted if r.start < r.sequence.prompt)
        self._meter.stepped(prompt, sum(r.count for r in counted) - prompt)
        if self._speculator is not None and not decode.prompt:
            self._speculator.took(len(decode), now - began)
        self._sample(rows, now)
        if self._threads.adaptive and not decode.prompt and len(decode) == len(rows):
            self._adapt(len(rows), now - began, now)
        return True

    def _try(self, asked: Bench | Score) -> None:
        model, cells, busy = self._model, self._batch.cells, len(self._batch) > 0
        made: Measurement | Refused
        if isinstance(asked, Bench):
            made = trial(asked, model, cells, busy=busy)
        else:
            made = reading(asked, model, cells, busy=busy)
        if isinstance(made, Refused):
            self._link.send(made)
            return
        self._use_threads(self._threads.most)
        self._trial = made
        for sequence in self._trial.sequences:
            if not self._batch.waiting.put(sequence):
                self._fill()  # so many wait for one client
                self._batch.waiting.put(sequence)

    def _measure(self, trial: Measurement, rows: tuple[Rows, ...], began: float, now: float) -> None:
        for sequence in trial.took(rows, self._model, began, now):
            self._states.release(sequence)
        if trial.done:
            self._end_trial("")

    def _end_trial(self, why: str) -> None:
        trial, self._trial = self._trial, None
        if trial is None:
            return
        for sequence in trial.sequences:
            self._states.release(sequence)
        self._use_threads(self._threads.now)
        memory = self._usage.look()
        self._link.send(trial.result(why, self._threads.most, self._usage.peak, memory.mapped))

    def _adapt(self, rows: int, seconds: float, now: float) -> None:
        threads, before = self._threads, self._threads.now
        threads.stepped(rows, seconds, self._pressure.look(now), now)
        if threads.now != before:
            self._use_threads(threads.now)

    def _use_threads(self, count: int) -> None:
        self._model.use_threads(count)
        if self._speculator is not None:
            self._speculator.use_threads(count)

    def _make_room(self) -> None:
        if self._states.make_room():
            return
        text = "cannot go on: the cache has no room left for this answer"
        self._refuse(self._batch.running[0].id, 503, "out_of_cells", text)

    def _sample(self, rows: tuple[Rows, ...], now: float) -> None:
        items: list[wire.Item] = []
        ended: list[tuple[Answer, str]] = []
        for part, r in enumerate(rows):
            if r.sample:
                answer = self._answers[r.sequence.id]
                try:
                    made, reason = self._choose(answer, part, r, now)
                except GrammarError as error:
                    self._refuse(r.sequence.id, 400, "invalid_grammar", str(error))
                    continue
                items += made
                ended += [(answer, reason)] if reason else []
        if items:
            self._link.send(Tokens(tuple(items)))
        for answer, reason in ended:
            self._end(answer, reason)

    def _choose(self, answer: Answer, part: int, rows: Rows, now: float) -> tuple[list[wire.Item], str | None]:
        """A token, and while what was guessed is what is chosen, the one behind it. Raises GrammarError."""
        items, reason, guess = list[wire.Item](), None, rows.guess
        for at in range(len(guess) + 1):
            item, reason = answer.next(self._model.logits(part, len(guess) - at), self._model.vocab)
            if not answer.chat.probe:
                self._meter.token(answer.watch, now)
            items += [item] if item.text or item.logprob or item.reasoning or item.calls else []
            if reason or at == len(guess) or answer.sequence.tokens[-1] != guess[at]:
                break
        if self._speculator is not None:
            self._speculator.checked(answer.sequence, len(guess), at)
            self._meter.checked(len(guess), at)
        if guess:
            self._states.cut(answer.sequence)
        return items, reason

    def _end(self, answer: Answer, reason: str) -> None:
        self._release(answer)
        if not answer.chat.probe:
            self._meter.ended(reason, answer.sequence.cached)
        self._link.send(answer.finish(reason))

    def _refuse(self, request: int, status: int, code: str, text: str) -> None:
        """Ends a request that is under way with an error."""
        answer = self._answers[request]
        self._release(answer)
        if not answer.chat.probe:
            self._meter.ended("error")
        self._link.send(Refused(request, status, code, text))

    def _release(self, answer: Answer) -> None:
        self._states.release(answer.sequence)
        del self._answers[answer.sequence.id]
        if self._speculator is not None:
            self._speculator.forget(answer.sequence.id)
        answer.sampler.close()

    def _report(self, *, due: bool) -> None:
        now = time.monotonic()
        if not due and now - self._reported < REPORT:
            return
        self._reported, batch, prefixes = now, self._batch, self._states.prefixes
        memory = self._usage.look()
        requests = (len(batch.running), len(batch.waiting), len(batch.parked))
        if self._trial is not None:  # it is alone: what is there are sequences of its own
            requests = (0, 0, 0)
        shelved = self._shelf.held if self._shelf is not None else 0
        gauges = Gauges(*requests, batch.used, prefixes.held, prefixes.tokens,
                        self._threads.now, memory.own, self._usage.peak, memory.mapped, shelved)  # fmt: skip
        self._link.send(self._meter.take(gauges))
