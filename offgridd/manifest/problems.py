"""What pydantic found wrong, as problems with a position and a next step.

`accept` calls it. It must not show more of a value than a line, never text that a terminal would interpret, and no
secret: whoever may ask for the status reads it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from offgridd.core.errors import Problem
from offgridd.manifest import gitsection, sections, storesection, values
from offgridd.manifest.benchmarksection import Benchmark
from offgridd.manifest.fields import Section
from offgridd.manifest.nodes import ListNode, MapNode, Node, Path, Scalar, key_mark, leaves, locate
from offgridd.manifest.token import Token

MAX_SHOWN: Final = 60
_SECRET_PARTS: Final = re.compile(r"(?<=://)[^/?#]*(?=@)|(?<=\?).*", re.DOTALL)  # of an address
_KEY: Final = "[key]"  # how pydantic marks a problem with a map's key

_WRONG_TYPE: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text, in quotes",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "WrongType": "{message}",
}
_INVALID: Final[Mapping[str, str]] = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entry",
    "too_long": "at most {max_length} entries",
    "literal_error": "{expected}",
    "InvalidValue": "{message}",
}
_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "the top level": sections.Manifest,
    "server": sections.Server,
    "store": storesection.Store,
    "git": gitsection.Git,
    "defaults": sections.Defaults,
    "a model": sections.Model,
    "a model's source": sections.Source,
    "a model's benchmark": Benchmark,
}


def explain(root: MapNode, error: ValidationError) -> Iterator[Problem]:
    """One problem for each of pydantic's errors; what has no value at all is left to `missing_values`."""
    for detail in error.errors(include_url=False):
        problem = _explain(root, detail)
        if problem is not None:
            yield problem


def missing_values(root: MapNode) -> Iterator[Problem]:
    """Keys and entries without a value. Only a conf.d file may say null, and merging has used those up."""
    for path, node in leaves(root):
        nodes = node.items if isinstance(node, ListNode) else [node]
        for found in nodes:
            if isinstance(found, Scalar) and found.value is None:
                message = f"cannot use {dotted(path)}: it has no value; write one or remove the line"
                yield Problem("WrongType", message, *found.mark)


def show(text: str) -> str:
    """Text from a file, in quotes, on one line, cut to what helps."""
    return ascii(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


def dotted(path: Path) -> str:
    """`models.qwen.stop[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{ascii(step[: MAX_SHOWN + 4])[1:-1]}"
    return text.removeprefix(".") or "the manifest"


def _explain(root: MapNode, detail: ErrorDetails) -> Problem | None:
    kind, path = detail["type"], detail["loc"]
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in detail.get("ctx", {}).items()}
    if kind == "extra_forbidden":
        return _unknown_key(root, path)
    if kind == "missing":
        return _missing(root, path)
    if path and path[-1] == _KEY and kind == "string_pattern_mismatch":
        reason, wanted = values.WANTED[context["pattern"]]
        message = f"cannot use the name {show(str(path[-2]))}: it does not fit; write {wanted}"
        return Problem(reason, message, *key_mark(root, path[:-1]))
    mark, node = locate(root, path)
    if isinstance(node, Scalar) and node.value is None:
        return None
    reason, verdict = _judge(kind, node, detail["msg"], context)
    literal = "what stands there" if "token" in path[-2:] else _literal(node)  # who wrote it there has it in clear
    return Problem(reason, f"cannot use {dotted(path)}: {literal} {verdict}", *mark)


def _judge(kind: str, node: Node | None, message: str, context: Mapping[str, Any]) -> tuple[str, str]:
    """The reason, and what reads on from the literal."""
    if kind in _WRONG_TYPE:
        return "WrongType", f"is {_kind(node)}; write {_WRONG_TYPE[kind].format(message=message)}"
    if kind == "string_pattern_mismatch":
        reason, wanted = values.WANTED[context["pattern"]]
        return reason, f"does not fit; write {wanted}"
    if kind == "value_error":
        return "InvalidValue", str(context["error"])
    if kind == "literal_error" and not (isinstance(node, Scalar) and isinstance(node.value, str)):
        return "WrongType", f"is {_kind(node)}; write {context['expected']}"
    wanted = _INVALID[kind].format(message=message, **context) if kind in _INVALID else message
    return "InvalidValue", f"is not allowed; write {wanted}"


def _missing(root: MapNode, path: Path) -> Problem:
    mark, _ = locate(root, path[:-1])
    if path == ("models",):
        message = "cannot accept a manifest without 'models': it may be half written; write 'models: {}' for none"
        return Problem("Empty", message, *mark)
    where = dotted(path[:-1])
    return Problem("MissingField", f"cannot use {where}: '{path[-1]}' is missing; add it", *mark)


def _unknown_key(root: MapNode, path: Path) -> Problem:
    key, mark = str(path[-1]), key_mark(root, path)
    section = _section(path[:-1])
    if key in section.not_yet:
        message = f"cannot use '{key}': this version does not have it yet; remove the line"
        return Problem("NotSupportedYet", message, *mark)
    known = sorted({*section.model_fields, *section.not_yet})
    near = difflib.get_close_matches(key[:MAX_SHOWN], known, n=1)
    elsewhere = [name for name, other in _SECTIONS.items() if key in other.model_fields]
    if near:
        advice = f"did you mean '{near[0]}'?"
    elif elsewhere:
        advice = f"it belongs in {' or '.join(elsewhere)}"
    else:
        advice = f"remove it; known here are {', '.join(section.model_fields) or 'no keys in this version'}"
    return Problem("UnknownField", f"unknown key {show(key)}; {advice}", *mark)


def _section(path: Path) -> type[Section]:
    match path:
        case ("models", _):
            return sections.Model
        case ("models", _, "source") | ("models", _, "adapters", _, "source"):
            return sections.Source
        case ("models", _, "adapters", _):
            return sections.Adapter
        case ("models", _, "speculative") | ("defaults", "speculative"):
            return sections.Speculative
        case ("models", _, "cache") | ("defaults", "cache"):
            return sections.Cache
        case ("models", _, "benchmark") | ("defaults", "benchmark"):
            return Benchmark
        case ("server", "memory"):
            return sections.Memory
        case ("git", "verify"):
            return gitsection.Verify
        case (*_, "token"):
            return Token
        case (str() as name,):
            return _SECTIONS[name]
        case _:
            return sections.Manifest


def _literal(node: Node | None) -> str:
    match node:
        case Scalar(value=str()):
            return show(_SECRET_PARTS.sub("...", node.text))
        case Scalar():
            return node.text
        case _:
            return "it"


def _kind(node: Node | None) -> str:
    match node:
        case Scalar(value=bool()):
            return "true or false"
        case Scalar(value=int()):
            return "a whole number"
        case Scalar(value=float()):
            return "a number"
        case Scalar():
            return "text"
        case ListNode():
            return "a list"
        case _:
            return "a map"
