"""Calls as a model would write them: for templates that do not write the calls of earlier messages. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offgridd.engine.tools.shape import ID, INDEX, KEY, ORDINAL, Shape
from offgridd.engine.tools.values import dumps


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was made. `arguments`: the JSON text of an object."""

    id: str
    name: str
    arguments: str


def written(shape: Shape, calls: Sequence[Made]) -> str:
    """Raises ValueError where the arguments are no JSON object."""
    parts = list[str]()
    for number, call in enumerate(calls):
        parts.append(_filled(shape.between if number else shape.open, call, number))
        parts.append(_one(shape, call, number))
    return "".join([*parts, shape.close])


def _filled(text: str, call: Made, number: int) -> str:
    for hole, value in ((ID, call.id), (INDEX, str(number)), (ORDINAL, str(number + 1))):
        text = text.replace(hole, value)
    return text


def _one(shape: Shape, call: Made, number: int) -> str:
    arguments = json.loads(call.arguments)
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    match shape.kind:
        case "object":
            extras = [(key, _filled(text, call, number)) for key, text in shape.extras]
            own = [(shape.name_key, call.name), (shape.args_key, arguments)]
            return dumps(dict([*extras[: shape.leading], *own, *extras[shape.leading :]]))
        case "keyed":
            return dumps({call.name: arguments})
        case "named":
            return call.name + _filled(shape.after, call, number) + dumps(arguments)
        case "tagged":
            return call.name + _filled(shape.after, call, number) + _tags(shape, arguments)
        case "curly":
            return call.name + _curly(arguments, shape.after)
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _tags(shape: Shape, arguments: Mapping[str, Any]) -> str:
    quote = shape.quote.get("string", "")
    parts = list[str]()
    for key, value in arguments.items():
        text = value if isinstance(value, str) else dumps(value)
        parts += [shape.param, key, shape.quote.get(_type(value), quote), text, shape.unquote.replace(KEY, key)]
    return "".join(parts)


def _type(value: object) -> str:
    names = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


def _curly(value: Any, quote: str) -> str:
    if isinstance(value, str):
        return quote + value + quote
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_curly(one, quote)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_curly(one, quote) for one in value) + "]"
    return dumps(value)
