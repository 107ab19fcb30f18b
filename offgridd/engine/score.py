"""The perplexity of a text under way: one chunk of it as one sequence, through the same batches as requests.

As `llama-perplexity` of the library does it by default. The text is cut into chunks of `n_ctx` tokens; what is left
over is not used. Each is computed by itself, with BOS in the place of its first token where the model wants BOS. Each
token behind the first half counts, by the logits of the token before it: log-softmax, with exponentials in single and
their sum in double precision. Behind the half few rows are computed at once, since each gives a row of logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from offgridd.engine.port import Model, Vocabulary
from offgridd.engine.sampling import Table
from offgridd.engine.sequence import Rows, Sequence
from offgridd.engine.wire import Refused, Score, Scored

PIECE = 64  # rows of logits at once: 39 MB with a vocabulary of 152,000


class Reading:
    def __init__(self, asked: Score, tokens: list[int], vocab: Vocabulary) -> None:
        """`tokens`: the whole text's."""
        self.asked, size = asked, asked.n_ctx
        self._chunks, self._first = len(tokens) // size, size // 2
        self._sha256 = hashlib.sha256(np.array([vocab.size, *tokens], "<i4").tobytes()).hexdigest()
        self._chunk = tokens[asked.chunk * size : (asked.chunk + 1) * size]
        bos, _ = vocab.edges()
        if bos is not None:
            self._chunk[0] = bos
        context = self._chunk[: self._first]
        self.sequences = [Sequence(-1, "", context, len(context), 1, kept=False)]
        self._read, self._sum, self._squares = 0, 0.0, 0.0

    def every(self, rows: Rows) -> bool:
        return rows.start >= self._first

    def took(self, rows: Items[Rows], model: Model, _began: float, _now: float) -> list[Sequence]:
        (read,) = rows
        sequence, end = read.sequence, read.start + read.count
        if self.every(read):
            found = unlikeliness(model.table(), self._chunk[read.start + 1 : end + 1])
            self._sum, self._squares = self._sum + float(found.sum()), self._squares + float((found * found).sum())
        self._read = end
        if read.sample:
            sequence.tokens = self._chunk[: min(end + PIECE, len(self._chunk))]
            sequence.prompt = len(sequence.tokens)
        return [sequence] if self.done else []

    @property
    def done(self) -> bool:
        return self._read == len(self._chunk)

    def result(self, why: str, _threads: int, _own_peak: int, _mapped: int) -> Scored:
        if why:
            return Scored(self.asked.id, why=why)
        count = len(self._chunk) - self._first - 1
        return Scored(self.asked.id, count, self._sum, self._squares, self._chunks, self._sha256)


def unlikeliness(logits: Table, tokens: Items[int]) -> NDArray[np.float64]:
    """The negative logarithm of each token's probability by its row; the rows for which there is no token are left."""
    table, at = logits[: len(tokens)], np.arange(len(tokens))
    most = table.max(axis=1, keepdims=True)
    sums = np.exp(table - most).sum(axis=1, dtype=np.float64)
    given = table[at, np.asarray(tokens, np.intp)] - most[:, 0]
    found: NDArray[np.float64] = np.log(sums) - given.astype(np.float64)
    return found


def reading(asked: Score, model: Model, cells: int, *, busy: bool) -> Reading | Refused:
    """The measurement, or why there is none here and now."""
    if busy:
        return Refused(asked.id, 409, "busy", "cannot measure: the model answers requests; try again", retry_after=30)
    if not 4 <= asked.n_ctx <= min(model.context, cells):
        text = (
            f"cannot measure the perplexity in pieces of {asked.n_ctx} tokens: the model's context is {model.context}"
        )
        return Refused(asked.id, 400, "context_length_exceeded", f"{text}, of {model.cells} cells; raise them")
    if model.vocab.edges()[1]:
        text = "cannot measure the perplexity: the model wants a token behind each text, so that chunks of one are none"
        return Refused(asked.id, 400, "unsupported_model", text)
    tokens = model.vocab.document(asked.text)
    if len(tokens) < 2 * asked.n_ctx or not 0 <= asked.chunk < len(tokens) // asked.n_ctx:
        text = f"cannot measure the perplexity: the text has {len(tokens)} tokens, which are too few; give a longer one"
        return Refused(asked.id, 400, "invalid_value", text)
    return Reading(asked, tokens, model.vocab)
