"""One running request beside its sequence: from a row of logits to the next token, and to text."""

from __future__ import annotations

from dataclasses import dataclass

from offgridd.engine.meter import Stopwatch
from offgridd.engine.port import Vocabulary
from offgridd.engine.prepare import Prepared
from offgridd.engine.sampling import Row, Sampler, logprob_of
from offgridd.engine.sequence import Sequence
from offgridd.engine.text import StreamText
from offgridd.engine.wire import Chat, Finish, Item, TokenLogprob


@dataclass(slots=True)
class Answer:
    chat: Chat
    sequence: Sequence
    sampler: Sampler
    text: StreamText
    prepared: Prepared
    watch: Stopwatch

    def next(self, row: Row, vocab: Vocabulary) -> tuple[Item, str | None]:
        """Chooses a token: what to send of it, and why the answer is over. Changes `row`. Raises GrammarError."""
        sequence, matcher, top = self.sequence, self.prepared.matcher, self.chat.logprobs
        raw = row.copy() if top is not None else row
        token = self.sampler.choose(row, matcher.allowed() if matcher else None)
        ended = vocab.is_end(token)
        if matcher is not None:
            matcher.take(token)
        over = ended or (matcher is not None and matcher.done)
        sequence.tokens.append(token)
        full = len(sequence.tokens) - sequence.prompt >= sequence.limit
        piece = b"" if ended else vocab.piece(token, special=token in self.prepared.spoken)
        stopped = self.text.push(piece, last=over or full)
        reason = "stop" if over or stopped else "length" if full else None
        logprob = _logprob(raw, token, top, vocab) if top is not None and not ended else None
        return self._item(self.text.take(), logprob, last=reason is not None), reason

    def _item(self, text: str, logprob: TokenLogprob | None, *, last: bool) -> Item:
        reader = self.prepared.reader
        if reader is None:
            return Item(self.sequence.id, text, logprob)
        read = reader.push(text, last=last)
        return Item(self.sequence.id, read.text, logprob, read.reasoning, tuple(read.calls))

    def finish(self, reason: str) -> Finish:
        sequence = self.sequence
        made = len(sequence.tokens) - sequence.prompt
        return Finish(sequence.id, reason, sequence.prompt, made, sequence.cached, self.watch.timings())


def _logprob(row: Row, token: int, top: int, vocab: Vocabulary) -> TokenLogprob:
    found = logprob_of(row, token, top)
    return TokenLogprob(vocab.piece(token), found.logprob, tuple((vocab.piece(i), value) for i, value in found.top))
