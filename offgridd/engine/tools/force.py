"""Grammars under which an answer is calls that match the schemas of their tools. Pure; as Lark, for llguidance.

What they allow is what `stream` reads. A key that a schema does not name is not allowed, which is stricter than JSON
schema is by itself: models that may write any key go on for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from offgridd.engine.tools.channels import MARKS
from offgridd.engine.tools.shape import ID, INDEX, KEY, ORDINAL, Dialect, Shape
from offgridd.engine.tools.values import is_text

MOST_CALLS = 16  # of one answer that is forced to call
_TEXT = r"/(?s:.*)/"
_PLAIN = {"type", "description", "title", "default", "enum", "const", "examples"}
_LENGTHS = {"minLength", "maxLength"}
_OPEN = {"additionalProperties", "patternProperties", "allOf", "unevaluatedProperties"}  # these say of other keys
# As the grammar of a response format has it: else small models write nothing but white space.
_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ",
         "lenient": False, "coerce_one_of": False}  # fmt: skip

Split = Callable[[str], Sequence[str | int]]  # a text as control tokens and what is between
Schemas = Mapping[str, Mapping[str, Any]]  # of the arguments of each tool that may be called, by name


class ForceError(ValueError):
    """These calls can not be forced; the text says why."""


def forced(dialect: Dialect, schemas: Schemas, split: Split, *, parallel: bool) -> str:
    """The answer is one call or several, after the model has thought where it does. Raises ForceError."""
    rules = _Rules(dialect, schemas, split)
    many = parallel and dialect.shape is not None and dialect.shape.parallel
    return rules.text(f"{rules.thought()} {rules.calls(many)}")


def guarded(dialect: Dialect, schemas: Schemas, split: Split, *, parallel: bool, content: str | None = None) -> str:
    """The answer is free, but calls in it match. `content`: a JSON schema for an answer without calls."""
    rules = _Rules(dialect, schemas, split)
    many = parallel and dialect.shape is not None and dialect.shape.parallel
    return rules.text(rules.free(many, content))


class _Rules:
    def __init__(self, dialect: Dialect, schemas: Schemas, split: Split) -> None:
        assert dialect.shape is not None
        self._dialect, self._shape, self._schemas, self._split = dialect, dialect.shape, schemas, split
        self._made: dict[str, str] = {}

    def text(self, start: str) -> str:
        rules = "\n".join(f"{name}: {body}" for name, body in self._made.items())
        return f"%llguidance {{}}\nstart: {start}\n{rules}\n"

    def calls(self, many: bool) -> str:
        one = " | ".join(self._call(i, name, schema) for i, (name, schema) in enumerate(self._schemas.items()))
        self._made["call"] = one
        if self._dialect.channels:
            return "call"
        shape = self._shape
        begin = "" if shape.prompted else self.literal(shape.open.lstrip())
        more = f"({self.literal(shape.between)} call){{0,{MOST_CALLS - 1}}}" if many else ""
        return f"{begin} call {more} {self.literal(shape.close.rstrip())}"

    def thought(self) -> str:
        """What may come before."""
        if self._dialect.channels:
            if not self._harmony():
                return ""
            begin, again = self.literal("<|channel|>analysis<|message|>"), self.literal("<|start|>assistant")
            return f"({begin} {self._until('<|end|>')} {again})?"
        thinking = self._dialect.thinking
        if thinking is None:
            return ""
        inner = f"{self._until(thinking.close)} /\\s{{0,4}}/"
        return inner if thinking.started else f"({self.literal(thinking.open)} {inner})?"

    def free(self, many: bool, content: str | None) -> str:
        said = f"%json {_marked(json.loads(content))}" if content is not None else _TEXT
        calls, shape = self.calls(many), self._shape
        if self._dialect.channels:
            final = self.literal("<|channel|>final<|message|>" if self._harmony() else "<|message|>")
            return f"{self.thought()} ({calls} | {final} {said})"
        if content is not None:
            return f"{self.thought()} ({calls} | {said})"
        if shape.bare:
            return f"{self.thought()} ({calls} | /[^{{](?s:.*)/)?"
        if shape.prompted:
            return f"({calls} | {self.literal('all' + shape.after)} {_TEXT})"
        return self._interspersed(many)

    def _interspersed(self, many: bool) -> str:
        """Text with calls in it. Text that begins one is always one: its mark is looked for lazily."""
        shape = self._shape
        again = shape.between.startswith(shape.close)  # then the next call is found as the first one was
        calls = self.calls(many and not again)
        mark, gap = shape.open.strip(), shape.open[len(shape.open.rstrip()) :]
        inner = calls.removeprefix(self.literal(shape.open.lstrip()))
        first, *rest = self._split(mark)
        if isinstance(first, int):  # which text can not have
            free = self._with_controls()
            behind = " ".join(f"<[{one}]>" if isinstance(one, int) else _with_holes(one) for one in [*rest, gap] if one)
            return f"{free} (<[{first}]> {behind} {inner} {free}){'*' if many else '?'}"
        self._made["lead[lazy]"] = f"{_TEXT} {self.literal(mark)}"
        last = _TEXT
        if not many:
            self._made["REST"] = f"{_TEXT} & ~/(?s:.*){_escaped(mark)}(?s:.*)/"
            last = "REST"
        return f"(lead {self.literal(gap)} {inner}){'*' if many else '?'} {last}"

    def _with_controls(self) -> str:
        """Any text, and the control tokens that the dialect's own marks have."""
        marks = [*self._dialect.hidden]
        if self._dialect.thinking is not None:
            marks += [self._dialect.thinking.open, self._dialect.thinking.close]
        ids = sorted({one for mark in marks for one in self._split(mark) if isinstance(one, int)})
        return f"({' | '.join([_TEXT, *(f'<[{one}]>' for one in ids)])})*" if ids else _TEXT

    def _harmony(self) -> bool:
        return self._shape.kind == "named"

    def _call(self, number: int, name: str, schema: Mapping[str, Any]) -> str:
        rule, shape = f"call_{number}", self._shape
        if self._dialect.channels:
            if self._harmony():
                head = f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
                self._made[rule] = f"{self.literal(head)} {_json(schema)} {self.literal('<|call|>')}"
            else:
                head, tail = f" to={name}<|message|>{shape.open}{name}{shape.after}", f"{shape.close}<|eot|>"
                self._made[rule] = f"{self.literal(head)} {self._tags(rule, schema)} {self.literal(tail)}"
            return rule
        match shape.kind:
            case "object":
                self._made[rule] = self._object(name, schema)
            case "keyed":
                self._made[rule] = f"{_text('{' + json.dumps(name) + ': ')} {_json(schema)} {_text('}')}"
            case "named":
                self._made[rule] = f"{self.literal(name + shape.after)} {_json(schema)}"
            case "tagged":
                self._made[rule] = f"{self.literal(name + shape.after)} {self._tags(rule, schema)}"
            case "curly":
                self._made[rule] = f"{self.literal(name)} {self._curly(rule, {'type': 'object', **schema})}"
            case "python":
                self._made[rule] = f"{_text(name + '(')} {self._keywords(rule, schema)} {_text(')')}"
        return rule

    def _object(self, name: str, schema: Mapping[str, Any]) -> str:
        shape = self._shape
        before = "".join(f'{json.dumps(key)}: "{text}", ' for key, text in shape.extras[: shape.leading])
        behind = "".join(f', {json.dumps(key)}: "{text}"' for key, text in shape.extras[shape.leading :])
        head = f"{{{before}{json.dumps(shape.name_key)}: {json.dumps(name)}, {json.dumps(shape.args_key)}: "
        return f"{self.literal(head)} {_json(schema)} {self.literal(behind + '}')}"

    def _tags(self, rule: str, schema: Mapping[str, Any]) -> str:
        parts, shape = list[str](), self._shape
        _only(schema, "properties", "required", "additionalProperties")
        for number, (key, inner, needed) in enumerate(_properties(schema)):
            kind = "string" if is_text(inner) else _kind(inner)
            quote = shape.quote.get(kind, shape.quote.get("string", ""))
            value = self._tagged_value(f"{rule}_{number}", inner, shape.unquote.replace(KEY, key))
            made = f"{self.literal(shape.param + key + quote)} {value}"
            parts.append(made if needed else f"({made})?")
        return " ".join(parts)

    def _tagged_value(self, rule: str, schema: Mapping[str, Any], unquote: str) -> str:
        if not is_text(schema):
            return f"{_json(schema, closed=False)} {self.literal(unquote)}"
        fixed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if fixed is not None:
            return f"({' | '.join(self.literal(one) for one in fixed if isinstance(one, str))}) {self.literal(unquote)}"
        return self._until(unquote, _expression(schema))

    def _until(self, mark: str, expression: str = r"(?s:.*)") -> str:
        """Text up to a mark, and the mark."""
        first, *rest = self._split(mark)
        behind = " ".join(self.literal(one) if isinstance(one, str) else f"<[{one}]>" for one in rest)
        if isinstance(first, int):
            return f"/{expression}/ <[{first}]> {behind}"
        rule = f"until_{len(self._made)}"
        self._made[f"{rule}[suffix={_text(first)}]"] = f"/{expression}/"
        return f"{rule} {behind}"

    def _keywords(self, rule: str, schema: Mapping[str, Any]) -> str:
        _only(schema, "properties", "required", "additionalProperties")
        items = [
            (f"{_text(key + '=')} {_json(inner, closed=False)}", needed) for key, inner, needed in _properties(schema)
        ]
        return self._listed(rule, items, ", ")

    def _listed(self, rule: str, items: Sequence[tuple[str, bool]], separator: str) -> str:
        """Some of the items, in their order, with a separator between; those that are needed come first."""
        comma = _text(separator)
        needed, others = [one for one, must in items if must], [one for one, must in items if not must]
        if needed:
            return " ".join([f" {comma} ".join(needed), *(f"({comma} {one})?" for one in others)])
        starts = [
            " ".join([one, *(f"({comma} {later})?" for later in others[i + 1 :])]) for i, one in enumerate(others)
        ]
        if not starts:
            return ""
        self._made[f"{rule}_some"] = " | ".join(starts)
        return f"{rule}_some?"

    def _curly(self, rule: str, schema: Mapping[str, Any]) -> str:
        quote = self._shape.after
        kind = _kind(schema)
        fixed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if fixed is not None:
            texts = [quote + one + quote if isinstance(one, str) else json.dumps(one) for one in fixed]
            return f"({' | '.join(map(self.literal, texts))})"
        if kind == "string":
            return f"{self.literal(quote)} {self._until(quote, _expression(schema))}"
        if kind in ("number", "boolean", "null"):
            return _json(schema, closed=False)
        if kind == "object":
            _only(schema, "properties", "required", "additionalProperties")
            items = [
                (f"{_text(key + ':')} {self._curly(f'{rule}_{i}', inner)}", needed)
                for i, (key, inner, needed) in enumerate(_properties(schema))
            ]
            return f"{_text('{')} {self._listed(rule, items, ',')} {_text('}')}"
        if kind == "array" and isinstance(schema.get("items"), dict):
            _only(schema, "items", "minItems", "maxItems")
            item = self._curly(f"{rule}_i", schema["items"])
            least, most = int(schema.get("minItems", 0)), schema.get("maxItems", "")
            if most == 0:
                return _text("[]")
            several = f"{{{max(0, least - 1)},{most - 1 if most != '' else ''}}}"
            return f"{_text('[')} ({item} ({_text(',')} {item}){several}){'' if least else '?'} {_text(']')}"
        raise ForceError("cannot force calls: this model can not write a schema without plain types; name each type")

    def literal(self, text: str) -> str:
        """A text of the dialect's: control tokens by number, holes as what may stand there."""
        parts = [f"<[{one}]>" if isinstance(one, int) else _with_holes(one) for one in self._split(text)]
        return " ".join(part for part in parts if part)


def _with_holes(text: str) -> str:
    """Numbers of calls are not counted: any will do for reading."""
    pieces = re.split(f"([{ID}{INDEX}{ORDINAL}])", text)
    made = {ID: "/[a-zA-Z0-9]{9}/", INDEX: "/[0-9]{1,2}/", ORDINAL: "/[0-9]{1,2}/"}
    return " ".join(made.get(piece) or _text(piece) for piece in pieces if piece)


def _escaped(text: str) -> str:
    """As an expression that nothing in it disturbs."""
    return "".join(char if char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _properties(schema: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Key, schema, and whether it is needed, in order. Raises ForceError."""
    found, needed = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(found, dict) or not isinstance(needed, list):
        raise ForceError("cannot force calls: properties must be an object and required a list")
    if unknown := [key for key in needed if key not in found]:
        raise ForceError(f"cannot force calls: {unknown[0]!r} is required and not among the properties")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}  # what a $ref may name
    return [(key, {**one, **(shared if "$ref" in str(one) else {})}, key in needed) for key, one in _dicts(found)]


def _dicts(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, one in found.items():
        yield key, one if isinstance(one, dict) else {}


def _only(schema: Mapping[str, Any], *known: str) -> None:
    """Raises ForceError where it says more than that."""
    if other := sorted(set(schema) - _PLAIN - {*known, "$schema", "$defs"}):
        raise ForceError(f"cannot force calls: this model's way to write them can not keep to {other[0]}")


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, str):
        return "number" if kind == "integer" else kind
    return "object" if "properties" in schema else ""


def _expression(schema: Mapping[str, Any]) -> str:
    """What a text matches. Raises ForceError."""
    other = set(schema) - _PLAIN - _LENGTHS - {"pattern"}
    if other or ("pattern" in schema and _LENGTHS & set(schema)):
        what = sorted(other or {"pattern"})[0]
        raise ForceError(f"cannot force calls: this model's way to write them can not keep to {what} of a string")
    if "pattern" in schema:
        pattern = str(schema["pattern"])
        begin = "" if pattern.startswith("^") else "(?s:.*)"
        end = "" if pattern.endswith("$") else "(?s:.*)"
        return f"{begin}(?:{pattern.removeprefix('^').removesuffix('$')}){end}".replace("/", "\\/")
    if _LENGTHS & set(schema):
        return f"(?s:.{{{int(schema.get('minLength', 0))},{schema.get('maxLength', '')}}})"
    return r"(?s:.*)"


def _json(schema: Mapping[str, Any], *, closed: bool = True) -> str:
    """`closed`: it is the schema of all arguments, which are an object."""
    if closed:
        schema = {"type": "object", "properties": {}, **schema}
    return f"%json {_marked(_closed(schema))}"


def _closed(schema: Any) -> Any:
    """Where an object's keys are named, no others are allowed, unless the schema says so."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for key in ("items", "anyOf", "oneOf", "prefixItems"):
        if key in made:
            made[key] = _closed(made[key])
    for key in ("properties", "$defs", "definitions"):
        if isinstance(made.get(key), dict):
            made[key] = {name: _closed(one) for name, one in made[key].items()}
    if "properties" in made and not _OPEN & set(made):
        made["additionalProperties"] = False
    return made


def _marked(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _JSON}, ensure_ascii=False)


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
