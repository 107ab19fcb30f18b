"""The engine's loop: take what arrived, ask the batch for a step, decode, sample, send. One thread owns the model.

A reader thread takes frames off the socket and raises the abort flag; a second one prepares prompts. Both only put
events into the inbox.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from offgridd.engine.batch import Batch, Sequence, Step
from offgridd.engine.port import Aborted, Model, OutOfCells, Sampling
from offgridd.engine.prepare import Preparer
from offgridd.engine.text import StreamText
from offgridd.engine.wire import Abort, Admitted, Chat, Finish, Frame, Refused, Splitter, Tokens, encode, to_worker

FULL = Refused(0, 429, "queue_full", "cannot queue the request: too many wait for this model; try again", retry_after=2)


class Link:
    """The worker's end of the socketpair. Sending is for any thread; a gone daemon ends the process."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lock, self._splitter = sock, threading.Lock(), Splitter()
        self._bodies: deque[bytes] = deque()

    def send(self, frame: Frame) -> None:
        with self._lock:
            self._sock.sendall(encode(frame))

    def receive(self) -> bytes | None:
        """The next frame's body; None is the end of the connection."""
        while not self._bodies:
            data = self._sock.recv(1 << 16)
            if not data:
                return None
            self._bodies += self._splitter.feed(data)
        return self._bodies.popleft()


@dataclass(slots=True)
class Answer:
    """What belongs to one running request beside its sequence."""

    chat: Chat
    sequence: Sequence
    sampler: Sampling
    text: StreamText


class Engine:
    def __init__(self, model: Model, preparer: Preparer, link: Link, closed: Callable[[], None]) -> None:
        self._model, self._preparer, self._link, self._closed = model, preparer, link, closed
        self._batch = Batch(chunk=model.chunk)
        self._answers: dict[int, Answer] = {}
        self._inbox: queue.SimpleQueue[tuple[Chat, list[int]] | Abort] = queue.SimpleQueue()
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
            step = self._batch.next()
            if step is not None:
                self._do(step)

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
        finally:
            self._closed()

    def _prepare(self) -> None:
        try:
            while True:
                chat = self._chats.get()
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
        self._batch.abort(request)
        answer = self._answers.pop(request, None)
        if answer is None:
            self._gone.add(request)  # still being prepared, or long finished: ids are never used again
            if len(self._gone) > 4096:
                self._gone.clear()
            return
        self._end(answer, "abort")

    def _admit(self, chat: Chat, tokens: list[int]) -> None:
        if chat.id in self._gone:
            self._gone.discard(chat.id)
            self._link.send(Finish(chat.id, "abort", len(tokens), 0))
            return
        left = self._model.context - len(tokens)
        sequence = Sequence(chat.id, chat.client, tokens, len(tokens), min(chat.max_tokens or left, left))
        if not self._batch.submit(sequence):
            self._link.send(Refused(chat.id, FULL.status, FULL.code, FULL.message, retry_after=FULL.retry_after))
            return
        sampler = self._model.sampler(chat.sampling)
        self._answers[chat.id] = Answer(chat, sequence, sampler, StreamText(chat.stop))
        self._link.send(Admitted(chat.id, len(tokens)))

    def _do(self, step: Step) -> None:
        sequence = step.sequence
        answer = self._answers[sequence.id]
        if step.fresh:
            self._model.clear()
        with self._flag_lock:
            self._model.arm()
            self._decoding = sequence.id
        try:
            self._model.decode(step.tokens, step.start, logits=step.sample)
        except Aborted:
            self._model.keep(step.start)
            return  # the Abort is in the inbox
        except OutOfCells:
            text = "cannot go on: the cache has no room left for this answer"
            self._batch.finish(sequence)
            self._answers.pop(sequence.id).sampler.close()
            self._link.send(Refused(sequence.id, 503, "out_of_cells", text))
            return
        finally:
            with self._flag_lock:
                self._decoding = None
        self._batch.decoded(step)
        if step.sample:
            self._sampled(answer, answer.sampler.sample())

    def _sampled(self, answer: Answer, token: int) -> None:
        sequence, vocab = answer.sequence, self._model.vocab
        ended = vocab.is_end(token)
        self._batch.sampled(sequence, token)
        made = len(sequence.tokens) - sequence.prompt
        full = made >= sequence.limit
        stopped = answer.text.push(b"" if ended else vocab.piece(token), last=ended or full)
        text = answer.text.take()
        if text or not ended:
            self._link.send(Tokens(((sequence.id, text, 0 if ended else 1),)))
        if ended or stopped or full:
            del self._answers[sequence.id]
            self._batch.finish(sequence)
            self._end(answer, "stop" if ended or stopped else "length")

    def _end(self, answer: Answer, reason: str) -> None:
        answer.sampler.close()
        sequence = answer.sequence
        self._link.send(Finish(sequence.id, reason, sequence.prompt, len(sequence.tokens) - sequence.prompt))
