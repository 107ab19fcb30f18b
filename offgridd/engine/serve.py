"""The engine's loop: take what arrived, ask the batch for a step, decode, sample, send. One thread owns the model.

Out of cells, the youngest sequence's state moves to host memory and comes back when there is room.

A reader thread takes frames off the socket and raises the abort flag; a second one prepares prompts. Both only put
events into the inbox.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from offgridd.engine.batch import LEAST, Batch, Decode, Rows, Sequence
from offgridd.engine.grammar import GrammarError, Matcher
from offgridd.engine.link import Link
from offgridd.engine.port import Aborted, Model, OutOfCells, Part
from offgridd.engine.prefix import Piece, Tree
from offgridd.engine.prepare import Prepared, Preparer
from offgridd.engine.sampling import Row, Sampler, logprob_of
from offgridd.engine.text import StreamText
from offgridd.engine.wire import (
    Abort,
    Admitted,
    Chat,
    Finish,
    Item,
    Refused,
    TokenLogprob,
    Tokens,
    WireError,
    to_worker,
)

CACHE = 512 << 20  # bytes of finished prefixes that are kept
FULL = Refused(0, 429, "queue_full", "cannot queue the request: too many wait for this model; try again", retry_after=2)


@dataclass(slots=True)
class Answer:
    """What belongs to one running request beside its sequence."""

    chat: Chat
    sequence: Sequence
    sampler: Sampler
    text: StreamText
    matcher: Matcher | None


class Engine:
    def __init__(self, model: Model, preparer: Preparer, link: Link, closed: Callable[[], None]) -> None:
        self._model, self._preparer, self._link, self._closed = model, preparer, link, closed
        self._batch = Batch(model.slots, model.cells, model.chunk)
        self._parked: dict[int, bytes] = {}  # by request, the state of those without cells
        self._prefixes = Tree(CACHE if model.cuttable else 0)
        self._answers: dict[int, Answer] = {}
        self._inbox: queue.SimpleQueue[tuple[Chat, Prepared] | Abort] = queue.SimpleQueue()
        self._chats: queue.SimpleQueue[Chat] = queue.SimpleQueue()
        self._gone: set[int] = set()  # aborted before they were prepared
        self._decoding: int | None = None
        self._flag_lock = threading.Lock()

    def run(self) -> None:
        """Serves until the daemon is gone; then `closed` ends the process."""
        for target in (self._read, self._prepare):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self._take(wait=len(self._batch) == 0)
            self._bring_in()
            for decode in self._batch.next():
                if not self._do(decode):
                    break

    def _read(self) -> None:
        try:
            while (body := self._link.receive()) is not None:
                frame = to_worker(body)
                if isinstance(frame, Chat):
                    self._chats.put(frame)
                elif isinstance(frame, Abort):
                    self._inbox.put(frame)
                    with self._flag_lock:
                        if self._decoding == frame.id:
                            self._model.abort()
        except WireError:
            traceback.print_exc()
            os._exit(70)
        self._closed()

    def _prepare(self) -> None:
        try:
            while True:
                chat = self._chats.get()
                if chat.id in self._gone:  # nobody waits for it
                    self._inbox.put((chat, Prepared([])))
                    continue
                made = self._preparer.prepare(chat)
                if isinstance(made, Refused):
                    self._link.send(made)
                else:
                    self._inbox.put((chat, made))
        except BaseException:
            # A bug. Without this thread every later request would wait for ever; the daemon starts another worker.
            traceback.print_exc()
            os._exit(70)

    def _take(self, *, wait: bool) -> None:
        while True:
            try:
                item = self._inbox.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if isinstance(item, Abort):
                self._abort(item.id)
            else:
                self._admit(*item)

    def _abort(self, request: int) -> None:
        answer = self._answers.get(request)
        if answer is None:
            self._gone.add(request)  # still being prepared, or long finished: ids are never used again
            if len(self._gone) > 4096:
                self._gone.clear()
            return
        self._end(answer, "abort")

    def _admit(self, chat: Chat, prepared: Prepared) -> None:
        tokens = prepared.tokens
        if chat.id in self._gone:
            self._gone.discard(chat.id)
            self._link.send(Finish(chat.id, "abort", len(tokens), 0))
            return
        left = self._model.context - len(tokens)
        sequence = Sequence(chat.id, chat.client, tokens, len(tokens), min(chat.max_tokens or left, left))
        if not self._batch.waiting.put(sequence):
            self._link.send(Refused(chat.id, FULL.status, FULL.code, FULL.message, retry_after=FULL.retry_after))
            return
        sampler = Sampler(chat.sampling, self._model.chain)
        self._answers[chat.id] = Answer(chat, sequence, sampler, StreamText(chat.stop), prepared.matcher)
        self._link.send(Admitted(chat.id, len(tokens)))

    def _bring_in(self) -> None:
        """Fills the slots: with those that were parked, then with those that wait; and hands over shared beginnings."""
        while (sequence := self._batch.resume()) is not None:
            state = self._parked.pop(sequence.id)
            self._model.restore(sequence.slot, [Piece(state, 0, sequence.done)])
        while (sequence := self._batch.admit()) is not None:
            self._begin(sequence)
        ready, lost = self._batch.followers()
        for sequence, leader, length in ready:
            self._model.share(leader.slot, sequence.slot, length)
        for sequence in lost:
            self._begin(sequence)

    def _begin(self, sequence: Sequence) -> None:
        """Finds out where the beginning of its prompt comes from, and brings back what was kept of it."""
        kept = self._batch.lead(sequence, self._prefixes.length(sequence.tokens))
        if not kept:
            return
        try:
            self._model.restore(sequence.slot, self._prefixes.match(sequence.tokens[:kept]))
        except OutOfCells:
            self._model.cut(sequence.slot, 0)  # then it is computed
        else:
            self._batch.took(sequence, kept)

    def _do(self, decode: Decode) -> bool:
        """One decode and what comes of it; False when it did not happen and the step has to be planned anew."""
        rows = decode.rows
        alone = rows[0].sequence.id if len(rows) == 1 else None
        with self._flag_lock:
            self._model.arm()
            self._decoding = alone
        began = time.perf_counter()
        try:
            self._model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in rows])
        except Aborted:
            self._model.cut(rows[0].sequence.slot, rows[0].start)
            return False  # the Abort is in the inbox
        except OutOfCells:
            self._make_room()
            return False
        finally:
            with self._flag_lock:
                self._decoding = None
        self._batch.decoded(decode, time.perf_counter() - began)
        self._sample(rows)
        return True

    def _make_room(self) -> None:
        sequence = self._batch.park()
        if sequence is not None:
            self._parked[sequence.id] = self._model.save(sequence.slot, 0, sequence.done)
            self._model.cut(sequence.slot, 0)
            return
        text = "cannot go on: the cache has no room left for this answer"
        answer = self._answers[self._batch.running[0].id]
        self._release(answer)
        self._link.send(Refused(answer.sequence.id, 503, "out_of_cells", text))

    def _keep(self, sequence: Sequence) -> None:
        """Only running sequences hold cells: idle ones slow every step, and moving them out costs next to nothing."""
        tokens = sequence.tokens[: sequence.done]
        start = self._prefixes.length(tokens)
        if self._prefixes.budget and len(tokens) - start >= LEAST:
            self._prefixes.insert(tokens, start, self._model.save(sequence.slot, start, len(tokens)))

    def _sample(self, rows: tuple[Rows, ...]) -> None:
        items: list[Item] = []
        ended: list[tuple[Answer, str]] = []
        for part, r in enumerate(rows):
            if r.sample:
                answer = self._answers[r.sequence.id]
                try:
                    item, reason = self._next(answer, self._model.logits(part))
                except GrammarError as error:
                    self._release(answer)
                    self._link.send(Refused(r.sequence.id, 400, "invalid_grammar", str(error)))
                    continue
                items += [item] if item.text or item.tokens else []
                ended += [(answer, reason)] if reason else []
        if items:
            self._link.send(Tokens(tuple(items)))
        for answer, reason in ended:
            self._end(answer, reason)

    def _next(self, answer: Answer, row: Row) -> tuple[Item, str | None]:
        """Chooses a token: what to send of it, and why the answer is over. Raises GrammarError."""
        sequence, vocab, top = answer.sequence, self._model.vocab, answer.chat.logprobs
        raw = row.copy() if top is not None else row
        matcher = answer.matcher
        token = answer.sampler.choose(row, matcher.allowed() if matcher else None)
        ended = vocab.is_end(token)
        if matcher is not None:
            matcher.take(token)
        over = ended or (matcher is not None and matcher.done)
        sequence.tokens.append(token)
        full = len(sequence.tokens) - sequence.prompt >= sequence.limit
        stopped = answer.text.push(b"" if ended else vocab.piece(token), last=over or full)
        reason = "stop" if over or stopped else "length" if full else None
        logprob = self._logprob(raw, token, top) if top is not None and not ended else None
        return Item(sequence.id, answer.text.take(), 0 if ended else 1, logprob), reason

    def _logprob(self, row: Row, token: int, top: int) -> TokenLogprob:
        found, piece = logprob_of(row, token, top), self._model.vocab.piece
        return TokenLogprob(piece(token), found.logprob, tuple((piece(i), value) for i, value in found.top))

    def _end(self, answer: Answer, reason: str) -> None:
        self._release(answer)
        sequence = answer.sequence
        made = len(sequence.tokens) - sequence.prompt
        self._link.send(Finish(sequence.id, reason, sequence.prompt, made, sequence.cached))

    def _release(self, answer: Answer) -> None:
        """Takes the answer out wherever it is; its slot and cells are free, what was computed for it is kept."""
        sequence = answer.sequence
        if sequence in self._batch.running:
            self._keep(sequence)
            self._model.cut(sequence.slot, 0)
        self._batch.remove(sequence.id)
        self._parked.pop(sequence.id, None)
        del self._answers[sequence.id]
        answer.sampler.close()
