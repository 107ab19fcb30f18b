"""One running request beside its sequence: from a row of logits to the next token, and to text."""

from __future__ import annotations

from dataclasses import dataclass

from offgridd.engine.grammar import Matcher
from offgridd.engine.meter import Stopwatch
from offgridd.engine.port import Vocabulary
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
    matcher: Matcher | None
    watch: Stopwatch

    def next(self, row: Row, vocab: Vocabulary) -> tuple[Item, str | None]:
        """Chooses a token: what to send of it, and why the answer is over. Changes `row`. Raises GrammarError."""
        sequence, matcher, top = self.sequence, self.matcher, self.chat.logprobs
        raw = row.copy() if top is not None else row
        token = self.sampler.choose(row, matcher.allowed() if matcher else None)
        ended = vocab.is_end(token)
        if matcher is not None:
            matcher.take(token)
        over = ended or (matcher is not None and matcher.done)
        sequence.tokens.append(token)
        full = len(sequence.tokens) - sequence.prompt >= sequence.limit
        stopped = self.text.push(b"" if ended else vocab.piece(token), last=over or full)
        reason = "stop" if over or stopped else "length" if full else None
        logprob = _logprob(raw, token, top, vocab) if top is not None and not ended else None
        return Item(sequence.id, self.text.take(), logprob), reason

    def finish(self, reason: str) -> Finish:
        sequence = self.sequence
        made = len(sequence.tokens) - sequence.prompt
        return Finish(sequence.id, reason, sequence.prompt, made, sequence.cached, self.watch.timings())


def _logprob(row: Row, token: int, top: int, vocab: Vocabulary) -> TokenLogprob:
    found = logprob_of(row, token, top)
    return TokenLogprob(vocab.piece(token), found.logprob, tuple((vocab.piece(i), value) for i, value in found.top))
