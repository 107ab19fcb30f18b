"""From a `Chat` to tokens: mask, render, split, tokenise. In a thread of its own, so that no stream waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from offgridd.core.purpose import why_not
from offgridd.engine.grammar import GrammarError, Grammars, Matcher
from offgridd.engine.render import Renderer, TemplateError
from offgridd.engine.special import Masker
from offgridd.engine.wire import Chat, Embed, Refused, Request


class Tokenizer(Protocol):
    size: int
    longest: int  # characters that one token can stand for

    def tokenize(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may be queued: its prompt's token ids and what its answer must match."""

    tokens: list[int]
    matcher: Matcher | None = None


class Preparer:
    """`grammars` makes what compiles constraints, None where this model can not; it is called once, when needed."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        masker: Masker,
        renderer: Renderer | None,
        context: int,
        grammars: Callable[[], Grammars | None] = lambda: None,
    ) -> None:
        self._tokenizer, self._masker, self._renderer, self._context = tokenizer, masker, renderer, context
        self._grammars = cache(grammars)

    def prepare(self, chat: Request) -> Prepared | Refused:
        """What to queue, or why this request can not be served."""
        if isinstance(chat, Embed):
            why = why_not("", "embedding" if chat.query is None else "rerank")
            return Refused(chat.id, 400, "unsupported_model", f"cannot ask this of the model: {why}", "model")
        tokens = self._prompt(chat)
        if isinstance(tokens, Refused):
            return tokens
        if chat.constraint is None:
            return Prepared(tokens)
        grammars = self._grammars()
        if grammars is None:
            text = "cannot constrain the answer: this model's vocabulary does not allow it"
            return Refused(chat.id, 400, "unsupported_parameter", text, "response_format")
        try:
            return Prepared(tokens, grammars.compile(chat.constraint))
        except GrammarError as error:
            schema = chat.constraint.kind.startswith("json")
            code, param = ("invalid_schema", "response_format") if schema else ("invalid_grammar", "grammar")
            return Refused(chat.id, 400, code, str(error), param)

    def _prompt(self, chat: Chat) -> list[int] | Refused:
        if self._renderer is None:
            return Refused(
                chat.id, 400, "template_error", "cannot chat with this model: it has no usable chat template"
            )
        unknown = next((token for token, _ in chat.sampling.logit_bias if token >= self._tokenizer.size), None)
        if unknown is not None:
            text = f"cannot use logit_bias: there is no token {unknown}, the vocabulary has {self._tokenizer.size}"
            return Refused(chat.id, 400, "invalid_value", text, "logit_bias")
        least = sum(len(m.content) for m in chat.messages) // self._tokenizer.longest
        if least >= self._context:  # told without reading it: a text of megabytes takes seconds
            text = f"cannot answer: the prompt has at least {least} tokens and the context {self._context}; shorten it"
            return Refused(chat.id, 400, "context_length_exceeded", text, "messages")
        strings = [s for m in chat.messages for s in (m.role, m.content, m.name or "")]
        try:
            stand_ins = self._masker.stand_ins(strings)
            rendered = self._renderer.render(
                [self._masked(m.role, m.content, m.name, stand_ins) for m in chat.messages]
            )
            tokens = self._tokens(rendered, stand_ins)
        except (TemplateError, ValueError) as error:
            return Refused(chat.id, 400, "template_error", str(error), "messages")
        return self._fits(chat, tokens)

    def _tokens(self, rendered: str, stand_ins: dict[str, str]) -> list[int]:
        tokens: list[int] = []
        for part in self._masker.split(rendered, stand_ins):
            tokens += [part] if isinstance(part, int) else self._tokenizer.tokenize(part)
        return tokens

    def _masked(self, role: str, content: str, name: str | None, stand_ins: dict[str, str]) -> dict[str, str]:
        masked = {"role": role, "content": self._masker.mask(content, stand_ins)}
        return masked if name is None else {**masked, "name": self._masker.mask(name, stand_ins)}

    def _fits(self, chat: Chat, tokens: list[int]) -> list[int] | Refused:
        count, context = len(tokens), self._context
        if not tokens:
            return Refused(
                chat.id, 400, "template_error", "cannot answer: the chat template rendered to nothing", "messages"
            )
        if count >= context:
            text = (
                f"cannot answer: the prompt has {count} tokens and the context {context}; shorten it or raise context"
            )
            return Refused(chat.id, 400, "context_length_exceeded", text, "messages")
        if chat.max_tokens is not None and not chat.clip and count + chat.max_tokens > context:
            text = (
                f"cannot answer: the prompt has {count} tokens and max_tokens asks for {chat.max_tokens}, together more"
                f" than the context of {context}; shorten the prompt or lower max_tokens"
            )
            return Refused(chat.id, 400, "context_length_exceeded", text, "max_tokens")
        return tokens
