"""Rules for the arguments of a call where they are not written as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from offgridd.engine.tools.lark import Lark, json_of, quoted
from offgridd.engine.tools.shape import KEY, Shape
from offgridd.engine.tools.values import is_text

_PLAIN = {"type", "description", "title", "default", "enum", "const", "examples"}
_LENGTHS = {"minLength", "maxLength"}
_OBJECT = ("properties", "required", "additionalProperties")


class ForceError(ValueError):
    """These calls can not be forced; the text says why."""


class Arguments:
    """`rule`, which each method is given, is a name that nothing else has. All raise ForceError."""

    def __init__(self, lark: Lark, shape: Shape) -> None:
        self._lark, self._shape = lark, shape

    def tags(self, schema: Mapping[str, Any]) -> str:
        parts, shape = list[str](), self._shape
        _only(schema, *_OBJECT)
        for key, inner, needed in _properties(schema):
            kind = "string" if is_text(inner) else _kind(inner)
            quote = shape.quote.get(kind, shape.quote.get("string", ""))
            value = self._tagged(inner, shape.unquote.replace(KEY, key))
            made = f"{self._lark.literal(shape.param + key + quote)} {value}"
            parts.append(made if needed else f"({made})?")
        return " ".join(parts)

    def _tagged(self, schema: Mapping[str, Any], unquote: str) -> str:
        if not is_text(schema):
            return f"{json_of(schema)} {self._lark.literal(unquote)}"
        fixed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if fixed is not None:
            texts = [self._lark.literal(one) for one in fixed if isinstance(one, str)]
            return f"({' | '.join(texts)}) {self._lark.literal(unquote)}"
        return self._lark.until(unquote, _expression(schema))

    def keywords(self, rule: str, schema: Mapping[str, Any]) -> str:
        _only(schema, *_OBJECT)
        items = [(f"{quoted(key + '=')} {json_of(inner)}", needed) for key, inner, needed in _properties(schema)]
        return self._listed(rule, items, ", ")

    def _listed(self, rule: str, items: Sequence[tuple[str, bool]], separator: str) -> str:
        """Some of the items, in their order, with a separator between; those that are needed come first."""
        comma = quoted(separator)
        needed, others = [one for one, must in items if must], [one for one, must in items if not must]
        if needed:
            return " ".join([f" {comma} ".join(needed), *(f"({comma} {one})?" for one in others)])
        starts = [
            " ".join([one, *(f"({comma} {later})?" for later in others[i + 1 :])]) for i, one in enumerate(others)
        ]
        if not starts:
            return ""
        self._lark.rules[f"{rule}_some"] = " | ".join(starts)
        return f"{rule}_some?"

    def curly(self, rule: str, schema: Mapping[str, Any]) -> str:
        quote = self._shape.after
        kind = _kind(schema)
        fixed = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if fixed is not None:
            texts = [quote + one + quote if isinstance(one, str) else json.dumps(one) for one in fixed]
            return f"({' | '.join(map(self._lark.literal, texts))})"
        if kind == "string":
            return f"{self._lark.literal(quote)} {self._lark.until(quote, _expression(schema))}"
        if kind in ("number", "boolean", "null"):
            return json_of(schema)
        if kind == "object":
            _only(schema, *_OBJECT)
            items = [
                (f"{quoted(key + ':')} {self.curly(f'{rule}_{i}', inner)}", needed)
                for i, (key, inner, needed) in enumerate(_properties(schema))
            ]
            return f"{quoted('{')} {self._listed(rule, items, ',')} {quoted('}')}"
        if kind == "array" and isinstance(schema.get("items"), dict):
            _only(schema, "items", "minItems", "maxItems")
            item = self.curly(f"{rule}_i", schema["items"])
            least, most = int(schema.get("minItems", 0)), schema.get("maxItems", "")
            if most == 0:
                return quoted("[]")
            several = f"{{{max(0, least - 1)},{most - 1 if most != '' else ''}}}"
            return f"{quoted('[')} ({item} ({quoted(',')} {item}){several}){'' if least else '?'} {quoted(']')}"
        raise ForceError("cannot force calls: this model can not write a schema without plain types; name each type")


def _properties(schema: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    """Key, schema, and whether it is needed, in order. Raises ForceError."""
    found, needed = schema.get("properties", {}), schema.get("required", [])
    if unknown := [key for key in needed if key not in found]:
        raise ForceError(f"cannot force calls: {unknown[0]!r} is required and not among the properties")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}  # what a $ref may name
    return [(key, {**one, **(shared if "$ref" in str(one) else {})}, key in needed) for key, one in _dicts(found)]


def _dicts(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, one in found.items():
        yield key, one if isinstance(one, dict) else {}


def check(schema: Any) -> None:
    """Raises ForceError where a keyword that is looked at here is not what it has to be."""
    if isinstance(schema, bool):
        return
    wrong = next((key for key, is_right in _RIGHT.items() if key in _dict(schema) and not is_right(schema[key])), None)
    if wrong is not None:
        raise ForceError(f"cannot force calls: {wrong} of a schema is not what JSON schema has there")
    for one in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        check(one)


def _dict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise ForceError("cannot force calls: a schema is no object")
    return schema


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_type(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


_RIGHT: dict[str, Callable[[Any], bool]] = {
    "properties": lambda value: isinstance(value, dict),
    "required": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "enum": lambda value: isinstance(value, list) and len(value) > 0,
    "type": _is_type,
    "pattern": lambda value: isinstance(value, str),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
}


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
