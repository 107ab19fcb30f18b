"""From a `Chat` to tokens: mask, render, split, tokenise. In a thread of its own, so that no stream waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from offgridd.core.purpose import why_not
from offgridd.engine.adapters import Adapter, AdapterError, Worn, worn
from offgridd.engine.grammar import GrammarError, Grammars, Matcher
from offgridd.engine.render import Renderer, TemplateError
from offgridd.engine.special import Masker
from offgridd.engine.tools.channels import Channels, reader
from offgridd.engine.tools.force import ForceError, forced, guarded, marks_of
from offgridd.engine.tools.history import composed
from offgridd.engine.tools.shape import Dialect
from offgridd.engine.tools.stream import Reader
from offgridd.engine.wire import Chat, Constraint, Embed, Refused, Request

Schemas = Mapping[str, Mapping[str, Any]]


class Tokenizer(Protocol):
    size: int
    longest: int  # characters that one token can stand for

    def tokenize(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may be queued: its prompt's token ids, what its answer must match, and what reads it.

    `spoken`: control tokens whose text belongs to the answer; `worn`: the adapters it is computed with.
    """

    tokens: list[int]
    matcher: Matcher | None = None
    reader: Reader | Channels | None = None
    spoken: frozenset[int] = frozenset()
    worn: Worn = Worn()


class Preparer:
    """`dialect`: what is known of the template.

    `grammars` makes what compiles constraints, None where this model can not; it is called once, when needed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        masker: Masker,
        template: tuple[Renderer, Dialect] | None,
        context: int,
        grammars: Callable[[], Grammars | None] = lambda: None,
        adapters: Sequence[Adapter] = (),
    ) -> None:
        self._adapters = adapters
        self._tokenizer, self._masker, self._context = tokenizer, masker, context
        self._template, self._grammars = template, cache(grammars)
        marks = marks_of(template[1]) if template is not None else []
        self._spoken = frozenset(one for mark in marks for one in self._marks(mark) if isinstance(one, int))

    def prepare(self, chat: Request) -> Prepared | Refused:
        """What to queue, or why this request can not be served."""
        if isinstance(chat, Embed):
            why = why_not("", "embedding" if chat.query is None else "rerank")
            return Refused(chat.id, 400, "unsupported_model", f"cannot ask this of the model: {why}", "model")
        if self._template is None:
            text = "cannot chat with this model: it has no usable chat template"
            return Refused(chat.id, 400, "template_error", text)
        renderer, dialect = self._template
        tokens = self._prompt(chat, renderer, dialect)
        if isinstance(tokens, Refused):
            return tokens
        try:
            dressed = worn(chat.adapters, self._adapters, tokens)
        except AdapterError as error:
            return Refused(chat.id, 404, "model_not_found", str(error), "model")
        schemas = {tool.name: json.loads(tool.schema) for tool in chat.tools} if chat.tools else None
        matcher = self._matcher(chat, dialect, schemas)
        if isinstance(matcher, Refused):
            return matcher
        plain = schemas is None and dialect.thinking is None and not dialect.channels and not dialect.hidden
        if plain or (matcher is not None and not chat.tools):
            return Prepared(tokens, matcher, worn=dressed)
        return Prepared(tokens, matcher, reader(dialect, schemas), self._spoken, dressed)

    def _matcher(self, chat: Chat, dialect: Dialect, schemas: Schemas | None) -> Matcher | Refused | None:
        param = _source(chat)
        try:
            constraint = self._constraint(chat, dialect, schemas)
            if constraint is None:
                return None
            grammars = self._grammars()
            if grammars is None:
                text = "cannot constrain the answer: this model's vocabulary does not allow it"
                return Refused(chat.id, 400, "unsupported_parameter", text, param)
            return grammars.compile(constraint)
        except (GrammarError, ForceError) as error:
            code = "invalid_grammar" if param == "grammar" else "invalid_schema"
            return Refused(chat.id, 400, code, str(error), param)

    def _constraint(self, chat: Chat, dialect: Dialect, schemas: Schemas | None) -> Constraint | None:
        """What the answer must match, tools included. Raises ForceError."""
        if schemas is None or dialect.shape is None:
            return chat.constraint
        if chat.constraint is not None and not chat.constraint.kind.startswith("json"):
            raise ForceError("cannot have tools beside a grammar: nothing would say which of them an answer follows")
        if chat.choice == "required":
            wanted = {chat.only: schemas[chat.only]} if chat.only else schemas
            return Constraint("lark", forced(dialect, wanted, self._marks, parallel=chat.parallel))
        content = (chat.constraint.text or '{"type": "object"}') if chat.constraint is not None else None
        if content is None and not any(tool.strict for tool in chat.tools):
            return None
        return Constraint("lark", guarded(dialect, schemas, self._marks, parallel=chat.parallel, content=content))

    def _marks(self, text: str) -> list[str | int]:
        return self._masker.split(text, {})

    def _prompt(self, chat: Chat, renderer: Renderer, dialect: Dialect) -> list[int] | Refused:
        unknown = next((token for token, _ in chat.sampling.logit_bias if token >= self._tokenizer.size), None)
        if unknown is not None:
            text = f"cannot use logit_bias: there is no token {unknown}, the vocabulary has {self._tokenizer.size}"
            return Refused(chat.id, 400, "invalid_value", text, "logit_bias")
        size = sum(len(m.content) + len(m.reasoning) for m in chat.messages) + sum(len(t.text) for t in chat.tools)
        if (least := size // self._tokenizer.longest) >= self._context:  # told without reading megabytes
            text = f"cannot answer: the prompt has at least {least} tokens and the context {self._context}; shorten it"
            return Refused(chat.id, 400, "context_length_exceeded", text, "messages")
        try:
            messages = composed(chat.messages, chat.tools, dialect)
            tools = [json.loads(tool.text) for tool in chat.tools] if dialect.native else []
            variables = json.loads(chat.template_args)
            stand_ins = self._masker.stand_ins(_strings([messages, tools, variables]))
            masked = [self._masked(one, stand_ins) for one in (messages, tools, variables)]
            for own, one in zip(messages, masked[0], strict=True):
                one["role"] = own["role"]  # our words, which templates compare
            tokens = self._tokens(renderer.render(*masked), stand_ins)
        except (TemplateError, ValueError) as error:
            return Refused(chat.id, 400, "template_error", str(error), "messages")
        return self._fits(chat, tokens)

    def _tokens(self, rendered: str, stand_ins: dict[str, str]) -> list[int]:
        tokens: list[int] = []
        for part in self._masker.split(rendered, stand_ins):
            tokens += [part] if isinstance(part, int) else self._tokenizer.tokenize(part)
        return tokens

    def _masked(self, value: Any, stand_ins: dict[str, str]) -> Any:
        """With no control token in any text of the request, whatever its depth."""
        if isinstance(value, str):
            return self._masker.mask(value, stand_ins)
        if isinstance(value, list):
            return [self._masked(one, stand_ins) for one in value]
        if isinstance(value, dict):
            return {self._masker.mask(key, stand_ins): self._masked(one, stand_ins) for key, one in value.items()}
        return value

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


def _strings(value: Any) -> list[str]:
    """All texts in it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _strings(one)]
    return [text for one in value for text in _strings(one)] if isinstance(value, list) else []


def _source(chat: Chat) -> str:
    """The parameter that constrains the answer."""
    if chat.tools and (chat.choice == "required" or any(tool.strict for tool in chat.tools)):
        return "tools"
    return "response_format" if chat.constraint is None or chat.constraint.kind.startswith("json") else "grammar"
