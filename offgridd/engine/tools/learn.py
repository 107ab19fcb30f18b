"""Finds out how a template writes tool calls, by having it write some. Pure; rendering comes in as a function.

What is found has to be tried before it is used: what `written` makes of calls has to be read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from offgridd.engine.tools.pages import ARGS, IDS, KEYS, NAMES, VALUES, Pages, Render, alike
from offgridd.engine.tools.shape import ID, INDEX, KEY, ORDINAL, Shape

_TYPED: tuple[tuple[str, object], ...] = (
    ("string", "valstr"), ("number", 4711), ("boolean", True), ("null", None), ("object", {"in": "side"}),
    ("array", ["in", 5]), ("string", "vallast"),
)  # fmt: skip


def learn(render: Render) -> Shape | None:
    """The template's own way; None where it writes no calls, or in a way that is not known."""
    for strings in (False, True):
        try:
            found = _learnt(Pages(render, strings))
        except ValueError:  # a text is not where it is in all ways we know
            found = None
        if found is not None:
            return replace(found, strings=strings)
    return None


def _learnt(pages: Pages) -> Shape | None:
    first, second = zip(NAMES, ARGS, strict=True)
    one = pages.of(first)
    try:
        both = pages.of(first, second)
        two = both if NAMES[1] in both else None
    except ValueError:
        two = None
    for attempt in (_object, _named, _curly, _python):
        found = attempt(one, two)
        if found is not None:
            break
    else:
        found = _tagged(pages, one, two)
    bare = not found.open.strip() and found.kind in ("object", "keyed")
    prompted = bool(found.open.strip()) and pages.prompt().rstrip().endswith(found.open.strip())
    return replace(found, parallel=two is not None, bare=bare, prompted=prompted)


def _numbered(first: str, second: str) -> str:
    """`first` with a hole where a call's number is in both."""
    for hole, start in ((INDEX, 0), (ORDINAL, 1)):
        if first != second and first.replace(str(start), hole) == second.replace(str(start + 1), hole):
            return first.replace(str(start), hole)
    return first


def _holes(text: str, number: int) -> str:
    return text.replace(IDS[number], ID)


def _objects(text: str, start: int = 0) -> Iterator[tuple[int, int, Any]]:
    """Where JSON objects begin and end, and what they are; those within others, too."""
    decoder, at = json.JSONDecoder(), text.find("{", start)
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
            yield at, end, value
        except ValueError:
            pass
        at = text.find("{", at + 1)


def _object(one: str, two: str | None) -> Shape | None:
    """A JSON object with name and arguments in it."""
    text = two or one
    spans = [found for found in _objects(text) if _is_call(found[2])]
    if not spans or (two is not None and len(spans) < 2):
        return None
    (start, end, value), last = spans[0], spans[-1]
    between = _holes(text[end : last[0]], 0) if two is not None else ""
    made = Shape("object", text[:start], between, _holes(text[last[1] :], len(spans) - 1))
    if list(value) == [NAMES[0]]:
        return replace(made, kind="keyed")
    keys = list(value)
    name_key = next(key for key in keys if value[key] == NAMES[0])
    args_key = next(key for key in keys if value[key] == ARGS[0])
    others = [key for key in keys if key not in (name_key, args_key)]
    extras = tuple((key, _hole_of(value[key], last[2].get(key))) for key in others)
    leading = sum(keys.index(key) < keys.index(name_key) for key in others)
    return replace(made, name_key=name_key, args_key=args_key, extras=extras, leading=leading)


def _is_call(value: Mapping[str, Any]) -> bool:
    if any(list(value.items()) == [made] for made in zip(NAMES, ARGS, strict=True)):
        return True
    items = list(value.values())
    named = [items.index(name) for name in NAMES if name in items]
    return bool(named) and any(one in ARGS for one in items[named[0] :])


def _hole_of(mine: object, theirs: object) -> str:
    if mine == IDS[0]:
        return ID
    numbers = {("0", "1"): INDEX, ("1", "2"): ORDINAL}
    return numbers.get((str(mine), str(theirs)), str(mine))


def _named(one: str, two: str | None) -> Shape | None:
    """The name, and the arguments as a JSON object somewhere behind it."""
    text = two or one
    spans = [(start, end) for start, end, value in _objects(text) if value in ARGS]
    if not spans or (two is not None and len(spans) < 2):
        return None
    at = text.rindex(NAMES[0], 0, spans[0][0])
    after, between = _holes(text[at + len(NAMES[0]) : spans[0][0]], 0), ""
    if two is not None:
        later = text.rindex(NAMES[1], 0, spans[1][0])
        after = _numbered(after, _holes(text[later + len(NAMES[1]) : spans[1][0]], 1))
        between = _holes(text[spans[0][1] : later], 1)
    return Shape("named", _holes(text[:at], 0), between, text[spans[-1][1] :], after=after)


def _curly(one: str, two: str | None) -> Shape | None:
    """Gemma 4: the name and `{key:<|"|>text<|"|>}`."""
    head = f"{NAMES[0]}{{{KEYS[0]}:"
    if head not in one:
        return None
    at, value = one.index(head), one.index(VALUES[0])
    quote = one[at + len(head) : value]
    ends = one.index("}", value) + 1
    between = two[ends : two.index(NAMES[1])] if two is not None else ""
    return Shape("curly", one[:at], between, one[ends:], after=quote)


def _python(one: str, two: str | None) -> Shape | None:
    """LFM2: the name and `(key='text')`."""
    head = f"{NAMES[0]}({KEYS[0]}="
    if head not in one:
        return None
    at, ends = one.index(head), one.index(")", one.index(VALUES[0])) + 1
    between = two[ends : two.index(NAMES[1])] if two is not None else ""
    return Shape("python", one[:at], between, one[ends:])


def _tagged(pages: Pages, one: str, two: str | None) -> Shape:
    """Each argument between texts of its own. Raises ValueError."""
    at = one.rindex(NAMES[0], 0, one.index(KEYS[0]))
    key = one.index(KEYS[0], at)
    value = one.index(VALUES[0], key)
    opening, quote = one[at + len(NAMES[0]) : key], one[key + len(KEYS[0]) : value]
    many = pages.of((NAMES[0], {**ARGS[0], **ARGS[1]}))
    middle = many[many.index(VALUES[0]) + len(VALUES[0]) : many.index(KEYS[1])].replace(KEYS[0], KEY)
    ending = one[value + len(VALUES[0]) :].replace(KEYS[0], KEY)
    param = opening[len(opening) - alike(opening[::-1], middle[::-1]) :]
    while KEY in param or not ending.startswith(middle[: len(middle) - len(param)]):
        param = param[1:]
    while param and param[0] not in "<[] \n" and ending.startswith(middle[: len(middle) - len(param) + 1]):
        param = param[1:]  # what closes the mark before
    unquote = middle[: len(middle) - len(param)]
    after, close, between = opening[: len(opening) - len(param)], ending[len(unquote) :], ""
    if two is not None:
        rest = two[two.index(VALUES[0]) + len(VALUES[0]) :].replace(KEYS[0], KEY)
        key = rest.index(KEYS[1])
        later = rest.rindex(NAMES[1], 0, key)
        after = _numbered(after, rest[later + len(NAMES[1]) : key - len(param)])
        between = rest[len(unquote) : later]
    quotes = _quotes(pages, param, quote, unquote)
    return Shape("tagged", one[:at], between, close, after=after, param=param, quote=quotes, unquote=unquote)


def _quotes(pages: Pages, param: str, quote: str, unquote: str) -> Mapping[str, str]:
    """By JSON type, what stands between a key and its value; all the same for most templates."""
    typed = {f"key{number}typed": one for number, one in enumerate(_TYPED)}
    text = pages.of((NAMES[0], {key: value for key, (_, value) in typed.items()}))
    there = [key for key in typed if param + key in text]  # one leaves out what is null
    found = dict[str, str]()
    for key, following in pairwise(there):
        kind, value = typed[key]
        begin = text.index(param + key) + len(param + key)
        inner = text[begin : text.index(param + following, begin)].removesuffix(unquote.replace(KEY, key))
        written = json.dumps(value)
        own = not inner.startswith(quote) and inner.endswith(written)
        found[kind] = inner.removesuffix(written) if own else quote
    return found
