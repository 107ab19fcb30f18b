"""Finds out how a template writes tool calls, by having it write some. Pure; rendering comes in as a function.

What is found has to be tried before it is used: what `written` makes of calls has to be read back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from offgridd.engine.tools.shape import ID, INDEX, KEY, ORDINAL, Json, Shape

Render = Callable[[Sequence[Json], bool], str | None]  # messages, whether an answer is to come; None: it refuses them
NAMES, IDS = ("fnalpha", "fnbeta"), ("idalpha0a", "idbetab0b")  # ids as Mistral's want them: nine letters and digits
KEYS, VALUES = ("keyone", "keytwo"), ("valone", "valtwo")
_ARGS: tuple[Json, Json] = ({KEYS[0]: VALUES[0]}, {KEYS[1]: VALUES[1]})
USER, CONTENT = "quiz of the user", "content beside calls"
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "fnother", "description": "it does",
        "parameters": {"type": "object", "required": [],
                       "properties": {"other": {"type": "string", "description": "it is"}}},
    },
}  # fmt: skip
_TYPED: tuple[tuple[str, object], ...] = (
    ("string", "valstr"), ("number", 4711), ("boolean", True), ("null", None), ("object", {"in": "side"}),
    ("array", ["in", 5]), ("string", "vallast"),
)  # fmt: skip


def user() -> Json:
    return {"role": "user", "content": USER}


def calling(calls: Sequence[tuple[str, Json]], *, strings: bool, content: str = "") -> Json:
    made = [
        {"id": IDS[i] if i < len(IDS) else f"idmore{i:03}", "type": "function",
         "function": {"name": name, "arguments": json.dumps(one) if strings else one}}
        for i, (name, one) in enumerate(calls)
    ]  # fmt: skip
    return {"role": "assistant", "content": content, "tool_calls": made}


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
    first, second = zip(NAMES, _ARGS, strict=True)
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


@dataclass(frozen=True)
class Pages:
    """What the template makes of calls, from where the answer begins to where the message ends."""

    render: Render
    strings: bool

    def of(self, *calls: tuple[str, Json]) -> str:
        """Raises ValueError where the template refuses them."""
        names = [name for name, _ in calls]
        beside = self.tail(calling(calls, strings=self.strings, content=CONTENT))
        if beside is not None and beside.count(CONTENT) == 1:
            found = beside.partition(CONTENT)[2]
            if names[0] in found and not self._begins_again(found[: found.index(names[0])]):
                return self._cut(found, names)
        alone = self.tail(calling(calls, strings=self.strings))
        if alone is None or names[0] not in alone:
            raise ValueError
        return self._cut(alone[shared(self._plain()[0], alone) :], names)

    def prompt(self) -> str:
        """What the template writes for an answer to begin with."""
        whole = self.render([user()], True) or ""
        return whole.rpartition(USER)[2]

    def tail(self, message: Json) -> str | None:
        """What the template makes of an answer; None where it refuses it."""
        whole = self.render([user(), message], False)
        return whole.rpartition(USER)[2] if whole is not None and USER in whole else None

    def _plain(self) -> tuple[str, str]:
        """What stands before and after the text of an answer without calls."""
        plain = self.tail({"role": "assistant", "content": CONTENT}) or ""
        head, _, end = plain.partition(CONTENT)
        return head, end

    def _begins_again(self, text: str) -> bool:
        """Whether the calls are in a message of their own."""
        head = self.prompt().partition(_THINK)[0].strip().rpartition("\n")[2]
        return any(map(str.isalpha, head)) and head in text

    def _cut(self, text: str, names: Sequence[str]) -> str:
        """`text` up to where, behind these names, the turn ends or another begins."""
        start = max(map(text.rfind, names))
        end = self._plain()[1]
        marks = {*_MARK.findall(end), *_MARK.findall(self.prompt().partition(_THINK)[0]), end.strip()} - {""}
        cuts = [at for mark in marks if mark not in text[:start] and (at := text.find(mark, start)) >= 0]
        return text[: min(cuts, default=len(text))]


_MARK = re.compile(r"<[^<>\s]{2,}>|\[[A-Z_/]{3,}\]")
_THINK = "<think"  # what comes from there on may differ from answer to answer


def _alike(one: str, other: str) -> int:
    """So many characters are the same at the beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def shared(head: str, text: str) -> int:
    """How much of both is alike, but for the beginning of a mark."""
    at = _alike(head, text)
    if at in (len(head), len(text)):
        return at
    opening = max(text.rfind("<", 0, at), text.rfind("[", 0, at))
    closing = max(text.rfind(">", 0, at), text.rfind("]", 0, at))
    return opening if opening > closing else at


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
    args_key = next(key for key in keys if value[key] == _ARGS[0])
    others = [key for key in keys if key not in (name_key, args_key)]
    extras = tuple((key, _hole_of(value[key], last[2].get(key))) for key in others)
    leading = sum(keys.index(key) < keys.index(name_key) for key in others)
    return replace(made, name_key=name_key, args_key=args_key, extras=extras, leading=leading)


def _is_call(value: Mapping[str, Any]) -> bool:
    if any(list(value.items()) == [made] for made in zip(NAMES, _ARGS, strict=True)):
        return True
    items = list(value.values())
    named = [items.index(name) for name in NAMES if name in items]
    return bool(named) and any(one in _ARGS for one in items[named[0] :])


def _hole_of(mine: object, theirs: object) -> str:
    if mine == IDS[0]:
        return ID
    numbers = {("0", "1"): INDEX, ("1", "2"): ORDINAL}
    return numbers.get((str(mine), str(theirs)), str(mine))


def _named(one: str, two: str | None) -> Shape | None:
    """The name, and the arguments as a JSON object somewhere behind it."""
    text = two or one
    spans = [(start, end) for start, end, value in _objects(text) if value in _ARGS]
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
    many = pages.of((NAMES[0], {**_ARGS[0], **_ARGS[1]}))
    middle = many[many.index(VALUES[0]) + len(VALUES[0]) : many.index(KEYS[1])].replace(KEYS[0], KEY)
    ending = one[value + len(VALUES[0]) :].replace(KEYS[0], KEY)
    param = opening[len(opening) - _alike(opening[::-1], middle[::-1]) :]
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
