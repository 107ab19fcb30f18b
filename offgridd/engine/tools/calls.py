"""One call as it comes, in each of the ways to write one: its name, and its arguments as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from offgridd.engine.tools import values
from offgridd.engine.tools.jsontext import Call, Value
from offgridd.engine.tools.patterns import Pattern, compiled, decide, either, search, source
from offgridd.engine.tools.shape import KEY, Shape

_NAME = compiled(r"[\w.:/-]{1,128}")
Schemas = Mapping[str, Mapping[str, Any]]


class Step(NamedTuple):
    """What was made of `used` characters: the name, which comes once, or text of the arguments.

    `over`: nothing more is of the call. `none`: it is no call.
    """

    used: int
    name: str = ""
    arguments: str = ""
    over: bool = False
    none: bool = False


NONE = Step(0, none=True)


class OneCall(Protocol):
    def read(self, text: str, *, last: bool) -> Step | None:
        """What can be told from `text`, which begins where the step before ended; None: more of it is needed."""


def one_call(shape: Shape, schemas: Schemas, marks: Mapping[str, Pattern]) -> OneCall:
    """`marks`: what may stand behind a call, by name."""
    match shape.kind:
        case "object" | "keyed":
            return ObjectCall(shape)
        case "named":
            return NamedCall(shape)
        case "tagged":
            return TaggedCall(shape, schemas, marks)
    return WholeCall(shape)


class ObjectCall:
    """A JSON object with everything in it."""

    def __init__(self, shape: Shape) -> None:
        self._call = Call(shape.name_key, None if shape.kind == "keyed" else shape.args_key)

    def read(self, text: str, *, last: bool) -> Step | None:
        if not text:
            return None
        before = self._call.name
        try:
            used, arguments = self._call.take(text)
        except ValueError:
            return NONE if before is None else Step(len(text), over=True)
        if self._call.done and self._call.name is None:
            return NONE
        name = self._call.name if before is None else None
        return Step(used, name or "", arguments, over=self._call.done)


class WholeCall:
    """As Gemma or LFM2 writes it: it is read when all of it is there."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._arguments: tuple[str] | None = None

    def read(self, text: str, *, last: bool) -> Step | None:
        if self._arguments is not None:
            return Step(0, arguments=self._arguments[0], over=True)
        try:
            curly = self._shape.kind == "curly"
            made = values.curly_call(text, self._shape.after) if curly else values.python_call(text)
        except ValueError:
            return NONE
        if made is None:
            return NONE if last else None
        name, arguments, used = made
        self._arguments = (values.dumps(arguments),)
        return Step(used, name)


class NamedCall:
    """A name, and a JSON object behind it."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._name, self._value = "", Value()
        self._begun = False

    def read(self, text: str, *, last: bool) -> Step | None:
        if not self._name:
            return self._named(text, last=last)
        lead = 0 if self._begun else len(text) - len(text.lstrip())
        if lead == len(text):
            return None
        self._begun = True
        used = self._value.take(text[lead:])
        return Step(lead + used, arguments=text[lead : lead + used], over=self._value.done)

    def _named(self, text: str, *, last: bool) -> Step | None:
        """A name, up to what stands behind it."""
        lead = len(text) - len(text.lstrip())
        found = self._name_end().search(text, lead, partial=True)
        name = text[lead : found.start() if found is not None else len(text)].strip()
        over = found is not None and not found.partial
        if (name and _NAME.fullmatch(name) is None) or (not name and over) or (found is None and last):
            return NONE
        if found is None or found.partial:
            return None
        self._name = name
        return Step(found.end() if found.lastgroup == "after" else found.start(), name)

    def _name_end(self) -> Pattern:
        if self._shape.after.strip():
            return compiled(f"(?P<after>{source(self._shape.after, exact=True)})")
        return compiled(r"(?P<after>[^\S\n]*\n)" if "\n" in self._shape.after else r"(?P<after>\s+)")


class TaggedCall(NamedCall):
    """A name, and each argument between marks of its own."""

    def __init__(self, shape: Shape, schemas: Schemas, marks: Mapping[str, Pattern]) -> None:
        super().__init__(shape)
        self._schemas, self._marks = schemas, {**marks, "param": compiled(source(shape.param))}
        self._key, self._quote = "", ""  # of the argument whose value comes next
        self._keyed = False  # its key comes next
        self._first = True

    def read(self, text: str, *, last: bool) -> Step | None:
        if not self._name:
            return self._named(text, last=last)
        if self._key:
            return self._value_of(text, last=last)
        return self._key_of(text) if self._keyed else self._argument(text, last=last)

    def _name_end(self) -> Pattern:
        if self._shape.after.strip():
            return super()._name_end()
        marks = either({name: one.pattern for name, one in self._marks.items()})
        assert marks is not None
        return marks

    def _argument(self, text: str, *, last: bool) -> Step | None:
        """Before an argument, or behind the last one."""
        chosen = decide(text, self._marks, last=last)
        if chosen is None or (not chosen[0] and last and text.strip()):
            return None  # the second: it broke off within a mark
        if chosen[0] == "param":
            self._keyed = True
            return Step(chosen[1])
        return Step(0, arguments="{}" if self._first else "}", over=True)

    def _key_of(self, text: str) -> Step | None:
        quotes = sorted(set(self._shape.quote.values()), key=len, reverse=True)
        pattern = either({f"q{i}": source(one.rstrip(), exact=True) for i, one in enumerate(quotes)})
        found = search(pattern, text) if pattern is not None else None
        if found is None or found.partial:
            return None
        self._key, self._keyed = text[: found.start()].strip(), False
        self._quote = quotes[int((found.lastgroup or "q0")[1:])]
        return Step(found.end())

    def _value_of(self, text: str, *, last: bool) -> Step | None:
        ending = compiled(source(self._shape.unquote.replace(KEY, self._key), exact=True))
        found = ending.search(text, self._json_end(text, last=last), partial=True)
        if found is None or found.partial:
            return None
        inner = text[: found.start()].removeprefix(self._quote[len(self._quote.rstrip()) :])
        value = self._of_tags(inner) or values.of_tag(inner, self._schema(), self._said())
        made = f"{'{' if self._first else ', '}{values.dumps(self._key)}: {value}"
        self._first, self._key = False, ""
        return Step(found.end(), arguments=made)

    def _json_end(self, text: str, *, last: bool) -> int:
        """Where JSON that is no plain text ends: a mark within it is none. 0 where it is none, or broken."""
        lead = len(text) - len(text.lstrip())
        plain = self._said() == "string" or values.is_text(self._schema())
        if plain or text[lead : lead + 1] not in ("{", "[", '"'):
            return 0
        value = Value()
        end = lead + value.take(text[lead:])
        return end if value.done or not last else 0

    def _of_tags(self, text: str) -> str:
        """JSON of an argument that has tags of its own in it; "" where it has none."""
        shape = self._shape
        if KEY not in shape.unquote or not text.startswith(shape.param) or values.is_text(self._schema()):
            return ""
        try:
            return values.dumps(values.nested(text, shape.param, self._quote, shape.unquote))
        except ValueError:
            return ""

    def _schema(self) -> Mapping[str, Any]:
        """Of the present argument, where there is one."""
        found = self._schemas.get(self._name, {}).get("properties", {})
        found = found.get(self._key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _said(self) -> str | None:
        """The type that the mark before the value says it has."""
        if len(set(self._shape.quote.values())) == 1:
            return None
        return next(kind for kind, one in self._shape.quote.items() if one == self._quote)
