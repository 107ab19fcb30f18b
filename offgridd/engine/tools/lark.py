"""Grammars in llguidance's Lark, put together from a dialect's texts. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offgridd.engine.tools.shape import ID, INDEX, ORDINAL

TEXT = r"/(?s:.*)/"
_OPEN = {"additionalProperties", "patternProperties", "allOf", "unevaluatedProperties"}  # these say of other keys
# As the grammar of a response format has it: else small models write nothing but white space.
_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ",
         "lenient": False, "coerce_one_of": False}  # fmt: skip

Split = Callable[[str], Sequence[str | int]]  # a text as control tokens and what is between


class Lark:
    """The rules so far, by name. Control tokens stand in them by number: text never becomes one."""

    def __init__(self, split: Split) -> None:
        self.split, self.rules = split, dict[str, str]()

    def grammar(self, start: str) -> str:
        rules = "\n".join(f"{name}: {body}" for name, body in self.rules.items())
        return f"%llguidance {{}}\nstart: {start}\n{rules}\n"

    def literal(self, text: str) -> str:
        """A text of the dialect's: control tokens by number, holes as what may stand there."""
        parts = [token(one) if isinstance(one, int) else _with_holes(one) for one in self.split(text)]
        return " ".join(part for part in parts if part)

    def until(self, mark: str, expression: str = r"(?s:.*)") -> str:
        """Text up to a mark, and the mark."""
        first, *rest = self.split(mark)
        behind = " ".join(token(one) if isinstance(one, int) else _with_holes(one) for one in rest)
        if isinstance(first, int):
            return f"/{expression}/ {token(first)} {behind}"
        rule = f"until_{len(self.rules)}"
        self.rules[f"{rule}[suffix={quoted(first)}]"] = f"/{expression}/"
        return f"{rule} {behind}"


def token(number: int) -> str:
    return f"<[{number}]>"


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def escaped(text: str) -> str:
    """As an expression that nothing in it disturbs."""
    return "".join(char if char.isalnum() else f"\\x{{{ord(char):x}}}" for char in text)


def json_of(schema: Mapping[str, Any], *, arguments: bool = False) -> str:
    """JSON that matches; `arguments`: it is the schema of all of them, which are an object."""
    if arguments:
        schema = {"type": "object", "properties": {}, **schema}
    return f"%json {json.dumps({**_closed(schema), 'x-guidance': _JSON}, ensure_ascii=False)}"


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


def _with_holes(text: str) -> str:
    """Numbers of calls are not counted: any will do for reading."""
    pieces = re.split(f"([{ID}{INDEX}{ORDINAL}])", text)
    made = {ID: "/[a-zA-Z0-9]{9}/", INDEX: "/[0-9]{1,2}/", ORDINAL: "/[0-9]{1,2}/"}
    return " ".join(made.get(piece) or quoted(piece) for piece in pieces if piece)
