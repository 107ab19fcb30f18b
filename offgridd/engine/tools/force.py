"""Grammars under which an answer is calls that match the schemas of their tools. Pure; as Lark, for llguidance.

What they allow is what `stream` reads. A key that a schema does not name is not allowed, which is stricter than JSON
schema is by itself: models that may write any key go on for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from offgridd.engine.tools.arguments import Arguments, ForceError, check
from offgridd.engine.tools.channels import MARKS
from offgridd.engine.tools.lark import TEXT, Lark, Split, escaped, json_of, quoted, token
from offgridd.engine.tools.shape import Dialect, Shape

__all__ = ["ForceError", "forced", "guarded", "marks_of"]
MOST_CALLS = 16  # of one answer that is forced to call

Schemas = Mapping[str, Mapping[str, Any]]  # of the arguments of each tool that may be called, by name


def forced(dialect: Dialect, schemas: Schemas, split: Split, *, parallel: bool) -> str:
    """The answer is one call or several, after the model has thought where it does. Raises ForceError."""
    rules = _Rules(dialect, schemas, split)
    many = parallel and dialect.shape is not None and dialect.shape.parallel
    return rules.lark.grammar(f"{rules.thought()} {rules.calls(many)}")


def guarded(dialect: Dialect, schemas: Schemas, split: Split, *, parallel: bool, content: str | None = None) -> str:
    """The answer is free, but calls in it match. `content`: a JSON schema for an answer without calls."""
    rules = _Rules(dialect, schemas, split)
    many = parallel and dialect.shape is not None and dialect.shape.parallel
    return rules.lark.grammar(rules.free(many, content))


class _Rules:
    def __init__(self, dialect: Dialect, schemas: Schemas, split: Split) -> None:
        assert dialect.shape is not None
        self._dialect, self._shape, self._schemas = dialect, dialect.shape, schemas
        self.lark = Lark(split)
        self._arguments = Arguments(self.lark, dialect.shape)

        for schema in schemas.values():
            check(schema)

    def calls(self, many: bool, *, opened: bool = False) -> str:
        """`opened`: what stands before the first one was there already."""
        one = " | ".join(self._call(i, name, schema) for i, (name, schema) in enumerate(self._schemas.items()))
        self.lark.rules["call"] = one
        if self._dialect.channels:
            return "call"
        shape = self._shape
        begin = "" if shape.prompted or opened else self.lark.literal(shape.open.lstrip())
        more = f"({self.lark.literal(shape.between)} call){{0,{MOST_CALLS - 1}}}" if many else ""
        return f"{begin} call {more} {self.lark.literal(shape.close.rstrip())}"

    def thought(self) -> str:
        """What may come before."""
        if self._dialect.channels:
            if not self._harmony():
                return ""
            begin, again = self.lark.literal("<|channel|>analysis<|message|>"), self.lark.literal("<|start|>assistant")
            return f"({begin} {self.lark.until('<|end|>')} {again})?"
        thinking = self._dialect.thinking
        if thinking is None:
            return ""
        inner = f"{self.lark.until(thinking.close)} /\\s{{0,4}}/"
        return inner if thinking.started else f"({self.lark.literal(thinking.open)} {inner})?"

    def free(self, many: bool, content: str | None) -> str:
        said = f"{json_of(json.loads(content))}" if content is not None else TEXT
        calls, shape = self.calls(many), self._shape
        if self._dialect.channels:
            final = self.lark.literal("<|channel|>final<|message|>" if self._harmony() else "<|message|>")
            return f"{self.thought()} ({calls} | {final} {said})"
        if content is not None:
            return f"{self.thought()} ({calls} | {said})"
        if shape.bare:
            return f"{self.thought()} ({calls} | /[^{{](?s:.*)/)?"
        if shape.prompted:
            return f"({calls} | {self.lark.literal('all' + shape.after)} {TEXT})"
        return self._interspersed(many)

    def _interspersed(self, many: bool) -> str:
        """Text with calls in it. Text that begins one is always one: its mark is looked for lazily."""
        shape = self._shape
        again = shape.between.startswith(shape.close)  # then the next call is found as the first one was
        inner = self.calls(many and not again, opened=True)
        mark, gap = shape.open.strip(), shape.open[len(shape.open.rstrip()) :]
        first, *rest = self.lark.split(mark)
        if isinstance(first, int):  # which text can not have
            free = self._with_controls()
            behind = " ".join(token(one) if isinstance(one, int) else self.lark.literal(one) for one in (*rest, gap))
            return f"{free} ({token(first)} {behind} {inner} {free}){'*' if many else '?'}"
        self.lark.rules["lead[lazy]"] = f"{TEXT} {self.lark.literal(mark)}"
        last = TEXT
        if not many:
            self.lark.rules["REST"] = f"{TEXT} & ~/(?s:.*){escaped(mark)}(?s:.*)/"
            last = "REST"
        return f"(lead {self.lark.literal(gap)} {inner}){'*' if many else '?'} {last}"

    def _with_controls(self) -> str:
        """Any text, and the control tokens that the dialect's own marks have."""
        marks = [*self._dialect.hidden]
        if self._dialect.thinking is not None:
            marks += [self._dialect.thinking.open, self._dialect.thinking.close]
        ids = sorted({one for mark in marks for one in self.lark.split(mark) if isinstance(one, int)})
        return f"({' | '.join([TEXT, *map(token, ids)])})*" if ids else TEXT

    def _harmony(self) -> bool:
        return self._shape.kind == "named"

    def _call(self, number: int, name: str, schema: Mapping[str, Any]) -> str:
        rule, shape = f"call_{number}", self._shape
        if self._dialect.channels:
            if self._harmony():
                head = f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
                self.lark.rules[rule] = (
                    f"{self.lark.literal(head)} {json_of(schema, arguments=True)} {self.lark.literal('<|call|>')}"
                )
            else:
                head, tail = f" to={name}<|message|>{shape.open}{name}{shape.after}", f"{shape.close}<|eot|>"
                self.lark.rules[rule] = (
                    f"{self.lark.literal(head)} {self._arguments.tags(schema)} {self.lark.literal(tail)}"
                )
            return rule
        match shape.kind:
            case "object":
                self.lark.rules[rule] = self._object(name, schema)
            case "keyed":
                self.lark.rules[rule] = (
                    f"{quoted('{' + json.dumps(name) + ': ')} {json_of(schema, arguments=True)} {quoted('}')}"
                )
            case "named":
                self.lark.rules[rule] = f"{self.lark.literal(name + shape.after)} {json_of(schema, arguments=True)}"
            case "tagged":
                self.lark.rules[rule] = f"{self.lark.literal(name + shape.after)} {self._arguments.tags(schema)}"
            case "curly":
                self.lark.rules[rule] = (
                    f"{self.lark.literal(name)} {self._arguments.curly(rule, {'type': 'object', **schema})}"
                )
            case "python":
                self.lark.rules[rule] = f"{quoted(name + '(')} {self._arguments.keywords(rule, schema)} {quoted(')')}"
        return rule

    def _object(self, name: str, schema: Mapping[str, Any]) -> str:
        shape = self._shape
        before = "".join(f'{json.dumps(key)}: "{text}", ' for key, text in shape.extras[: shape.leading])
        behind = "".join(f', {json.dumps(key)}: "{text}"' for key, text in shape.extras[shape.leading :])
        head = f"{{{before}{json.dumps(shape.name_key)}: {json.dumps(name)}, {json.dumps(shape.args_key)}: "
        return f"{self.lark.literal(head)} {json_of(schema, arguments=True)} {self.lark.literal(behind + '}')}"


def marks_of(dialect: Dialect) -> list[str]:
    """All texts that stand around calls, reasoning and content: their control tokens belong to the answer."""
    found = list(dialect.hidden)
    if dialect.thinking is not None:
        found += [dialect.thinking.open, dialect.thinking.close]
    if dialect.channels:
        found += MARKS
    shape: Shape | None = dialect.shape
    if shape is not None:
        found += [
            shape.open,
            shape.between,
            shape.close,
            shape.after,
            shape.param,
            shape.unquote,
            *shape.quote.values(),
        ]
    return [one for one in found if one]
