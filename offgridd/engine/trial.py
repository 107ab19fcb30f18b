"""A measurement under way: sequences of random tokens that go through the same batches as requests do."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence as Items

from offgridd.engine.port import Model, Vocabulary
from offgridd.engine.sampling import Row
from offgridd.engine.sequence import Rows, Sequence
from offgridd.engine.wire import Bench, Lane, Measured, Refused


class Trial:
    """`began`: monotonic seconds. Its sequences have the numbers -1, -2 ...: those of requests are positive.

    They go from depth to prompt to answer together: a phase is measured while nobody is in another one.
    """

    def __init__(self, asked: Bench, vocab: Vocabulary, began: float) -> None:
        self.asked, self._began, self._vocab = asked, began, vocab
        self._plain = _plain(vocab)
        self._dice = random.Random(asked.seed)
        self.sequences = [self._sequence(-1 - i) for i in range(asked.count)]
        self._prompts: dict[int, float] = {}
        self._tokens: dict[int, list[float]] = {s.id: [] for s in self.sequences}
        self._held: list[tuple[Sequence, list[int]]] = []  # what comes next of those that wait for the others

    def _sequence(self, number: int) -> Sequence:
        """As far as its first phase goes."""
        length = self.asked.depth or self.asked.prompt_tokens
        return Sequence(number, "", self._some(length), length, max(1, self.asked.output_tokens), kept=False)

    def _some(self, count: int) -> list[int]:
        return self._dice.choices(self._plain, k=count)

    def every(self, _rows: Rows) -> bool:
        return False

    def took(self, rows: Items[Rows], model: Model, began: float, now: float) -> list[Sequence]:
        self.decoded(rows, began)
        sampled = [(part, r.sequence) for part, r in enumerate(rows) if r.sample]
        return [sequence for part, sequence in sampled if self.token(sequence, model.logits(part), now)]

    def result(self, why: str, threads: int, own_peak: int, mapped: int) -> Measured:
        return Measured(self.asked.id, () if why else self.lanes(), threads, own_peak, mapped, why)

    def decoded(self, rows: Items[Rows], began: float) -> None:
        """A decode was done, which began then."""
        for r in rows:
            if r.start + r.count > self.asked.depth:
                self._prompts.setdefault(r.sequence.id, began - self._began)

    def token(self, sequence: Sequence, row: Row, now: float) -> bool:
        """The likeliest token is chosen, or any where that would end the answer. True: it is whole."""
        prompt = self.asked.prompt_tokens
        if prompt and len(sequence.tokens) == self.asked.depth:
            sequence.prompt += prompt
            self._hold(sequence, self._some(prompt))
            return False
        token = int(row.argmax())
        chosen = [self._dice.choice(self._plain) if self._vocab.is_end(token) else token]
        times = self._tokens[sequence.id]
        times.append(now - self._began)
        if len(times) == 1:
            self._hold(sequence, chosen)
        else:
            sequence.tokens += chosen
        return len(times) >= sequence.limit

    def _hold(self, sequence: Sequence, tokens: list[int]) -> None:
        """It goes on with them once all are as far."""
        self._held.append((sequence, tokens))
        if len(self._held) == len(self.sequences):
            for one, its in self._held:
                one.tokens += its
            self._held = []

    @property
    def done(self) -> bool:
        return all(len(self._tokens[s.id]) >= s.limit for s in self.sequences)

    def lanes(self) -> tuple[Lane, ...]:
        """Without a prompt its turn is that of the first token."""
        found = [(self._prompts.get(s.id), tuple(self._tokens[s.id])) for s in self.sequences]
        return tuple(Lane(times[0] if prompt is None else min(prompt, times[0]), times) for prompt, times in found)


def trial(asked: Bench, model: Model, cells: int, *, busy: bool) -> Trial | Refused:
    """The measurement, which begins now, or why there is none here."""
    return _refusal(asked, model, cells, busy=busy) or Trial(asked, model.vocab, time.monotonic())


def _refusal(asked: Bench, model: Model, cells: int, *, busy: bool) -> Refused | None:
    """Why it can not be measured here and now."""
    prompt = asked.depth + asked.prompt_tokens
    length = prompt + max(1, asked.output_tokens)  # the first token is always computed, and needs its cell
    if prompt < 1:
        return Refused(
            asked.id, 400, "invalid_value", "cannot measure an answer to nothing: ask for a prompt or a depth"
        )
    if busy:
        return Refused(asked.id, 409, "busy", "cannot measure: the model answers requests; try again", retry_after=30)
    if length > model.context:
        text = (
            f"cannot measure {length} tokens: the model's context is {model.context}; ask for fewer, or raise context"
        )
        return Refused(asked.id, 400, "context_length_exceeded", text)
    if asked.count > model.slots or asked.count * length > cells:
        text = f"cannot measure {asked.count} sequences of {length} tokens at once: the model has {model.slots} slots "
        text += f"and {model.cells} cells; raise parallel or kv_cells"
        return Refused(asked.id, 400, "concurrency_exceeded", text)
    return None


def _plain(vocab: Vocabulary) -> list[int]:
    """Tokens that stand for text."""
    controls = {*vocab.controls()[0].values()}
    return [token for token in range(vocab.size) if token not in controls and not vocab.is_end(token)]
