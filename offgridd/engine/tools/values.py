"""Arguments that are not written as JSON: what a tag's text, Gemma's braces and Python's parentheses say. Pure."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from offgridd.engine.tools.shape import KEY

_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The JSON types that a schema allows as far as it says so plainly; empty: it does not."""
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(one for one in kind if isinstance(one, str))
    several = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(several, list) and all(isinstance(one, dict) for one in several):
        found = [types_of(one) for one in several]
        return frozenset().union(*found) if all(found) else frozenset()
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return frozenset("string" for one in values if isinstance(one, str)) if values else frozenset()


def is_text(schema: Mapping[str, Any]) -> bool:
    """Whether a value is written as it is, without the quotation marks of JSON."""
    return types_of(schema) == {"string"}


def of_tag(text: str, schema: Mapping[str, Any], kind: str | None) -> str:
    """JSON of what stood in a tag. `kind`: the type that the tag itself says; None: it says none."""
    if text.startswith("<![CDATA[") and text.endswith("]]>"):
        text = text[9:-3]
    if kind == "string" or (kind is None and is_text(schema)):
        return dumps(text)
    try:
        value = json.loads(text)
    except ValueError:
        value = _python(text)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return text.strip()  # as it was written
    return dumps(value)


def nested(text: str, param: str, quote: str, unquote: str) -> Any:
    """What tags within a tag say (MiniMax M3): a list where all are items, else an object. Raises ValueError.

    `unquote` has KEY for the key that it closes.
    """
    found, at = list[tuple[str, Any]](), 0
    while text.startswith(param, at):
        begin = text.index(quote, at + len(param))
        key = text[at + len(param) : begin]
        opening, closing = param + key + quote, unquote.replace(KEY, key)
        start, depth = begin + len(quote), 1
        end = start
        while depth:
            end = text.index(closing, end)
            depth = 1 + text.count(opening, start, end) - text.count(closing, start, end) - 1
            end += len(closing)
        inner = text[start : end - len(closing)]
        value = nested(inner, param, quote, unquote) if inner.startswith(param) else _scalar(inner)
        found.append((key, value))
        at = end
    if at != len(text):
        raise ValueError("there is text between tags")
    return [value for _, value in found] if all(key == "item" for key, _ in found) else dict(found)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _python(text: str) -> Any:
    """Some templates write values as Python does."""
    try:
        return _literal(ast.parse(text.strip(), mode="eval").body)
    except (ValueError, SyntaxError):
        return text


def python_call(text: str) -> tuple[str, Mapping[str, Any], int] | None:
    """Name, arguments, and how long the call is. None: it may go on. Raises ValueError."""
    end = _closing(text, "(", ")", ("'", '"'))
    if end is None:
        return None
    try:
        tree = ast.parse(text[:end].strip().replace("\n", "\\n"), mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args:
            raise ValueError("it is no call")
        return ast.unparse(tree.func), {one.arg or "": _literal(one.value) for one in tree.keywords}, end
    except SyntaxError as error:
        raise ValueError(str(error)) from None


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Name(id=name) if name in _WORDS:
            return _WORDS[name]
        case ast.Dict(keys=keys, values=values):
            return {str(_literal(key)): _literal(one) for key, one in zip(keys, values, strict=True) if key}
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(one) for one in items]
    return ast.literal_eval(node)


def curly_call(text: str, quote: str) -> tuple[str, Mapping[str, Any], int] | None:
    """The same of `NAME{key:value}`, where strings stand between `quote`s."""
    end = _closing(text, "{", "}", (quote,))
    if end is None:
        return None
    start = text.index("{")
    value, at = _curly(text, start, quote)
    if at != end or not isinstance(value, dict):
        raise ValueError("it is no call")
    return text[:start].strip(), value, end


def _closing(text: str, opening: str, closing: str, quotes: tuple[str, ...]) -> int | None:
    """Behind the bracket that closes the first one."""
    depth, at, inside = 0, 0, ""
    while at < len(text):
        if inside:
            if len(inside) == 1 and text[at] == "\\":
                at += 2
                continue
            inside, step = ("", len(inside)) if text.startswith(inside, at) else (inside, 1)
            at += step
            continue
        found = next((one for one in quotes if text.startswith(one, at)), "")
        if found:
            inside = found
            at += len(found)
            continue
        depth += (text[at] == opening) - (text[at] == closing)
        at += 1
        if depth == 0 and text[at - 1] == closing:
            return at
    return None


def _curly(text: str, at: int, quote: str) -> tuple[Any, int]:
    """A value from `at` on, and where it ends. Raises ValueError."""
    if text.startswith(quote, at):
        end = text.index(quote, at + len(quote))
        return text[at + len(quote) : end], end + len(quote)
    if text[at : at + 1] == "[":
        items = list[Any]()
        at += 1
        while text[at : at + 1] != "]":
            item, at = _curly(text, at, quote)
            items.append(item)
            at += text[at : at + 1] == ","
        return items, at + 1
    if text[at : at + 1] == "{":
        found = dict[str, Any]()
        at += 1
        while text[at : at + 1] != "}":
            colon = text.index(":", at)
            key = text[at:colon].strip().removeprefix(quote).removesuffix(quote)
            found[key], at = _curly(text, colon + 1, quote)
            at += text[at : at + 1] == ","
        return found, at + 1
    end = next((i for i in range(at, len(text)) if text[i] in ",]}"), len(text))
    word = text[at:end].strip()
    return _WORDS[word] if word in _WORDS else json.loads(word), end
