"""An answer's text in pieces -> what of it is content, what reasoning, and what calls. Pure.

Whatever the pieces, the sum is the same. Text that turns out to be no call is content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from offgridd.engine.tools import values
from offgridd.engine.tools.jsontext import Call, Value
from offgridd.engine.tools.patterns import Match, Pattern, compiled, decide, either, search, source
from offgridd.engine.tools.shape import KEY, Dialect, Shape
from offgridd.engine.wire import CallPart

_NAME = compiled(r"[\w.:/-]{1,128}")
_ALL = "all"  # where the template begins a call by itself, this name is none: content follows


@dataclass(slots=True)
class Out:
    text: str = ""
    reasoning: str = ""
    calls: list[CallPart] = field(default_factory=list)


class Reader:
    """`schemas`: of the arguments of each tool, by name; None: there are no tools, and nothing is a call.

    `begun`: whatever the template has written for an answer to begin with is over.
    """

    def __init__(
        self, dialect: Dialect, schemas: Mapping[str, Mapping[str, Any]] | None = None, *, begun: bool = False
    ) -> None:
        self._shape = dialect.shape if schemas is not None else None
        self._schemas, self._thinking, self._hidden = schemas or {}, dialect.thinking, dialect.hidden
        self._held, self._out, self._last = "", Out(), False
        self._count, self._name = 0, ""
        self._mark, self._raw = "", ""  # before the present call, and what was read of it: it may be none
        self._first = ""  # what stands before the next argument of the present call
        self._call: Call | None = None
        self._value: Value | None = None
        self._key, self._quote = "", ""
        self._begun = False  # something of the answer was there
        self._trims = False  # white space comes next that belongs to a mark
        self._marks = self._all_marks()
        self._state: Callable[[], bool] = self._content
        if self._thinking is not None and self._thinking.started and not begun:
            self._state = self._reason
        elif self._shape is not None and self._shape.prompted:
            self._state = self._named

    @property
    def calls(self) -> int:
        """So many have begun."""
        return self._count

    def push(self, text: str, *, last: bool = False) -> Out:
        """What is certain with this piece; `last`: there is no more."""
        self._held += text
        self._last = last
        while self._state():
            pass
        if last:
            self._flush()
        out, self._out = self._out, Out()
        return out

    def _all_marks(self) -> dict[str, Pattern]:
        shape, found = self._shape, dict[str, Pattern]()
        if self._thinking is not None:
            found["close_think"] = compiled(source(self._thinking.close))
        if shape is None:
            return found
        if shape.between.strip():
            found["between"] = compiled(source(shape.between))
        if shape.close.strip():
            found["close"] = compiled(source(shape.close))
        if shape.kind == "tagged":
            found["param"] = compiled(source(shape.param))
        return found

    # Each state below takes what it can of `_held`, and says whether there may be more to do.

    def _trimmed(self) -> bool:
        """Whether there is text, behind the white space that belongs to a mark."""
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        return bool(self._held)

    def _content(self) -> bool:
        if not self._trimmed():
            return False
        shape, wanted = self._shape, dict[str, str]()
        if self._thinking is not None and self._thinking.open:
            wanted["think"] = source(self._thinking.open)
        if shape is not None and shape.bare:
            if not self._begun:
                return self._bare(shape)
        elif shape is not None:
            wanted["open"] = source(shape.open)
        wanted |= {f"hide{number}": source(mark) for number, mark in enumerate(self._hidden)}
        pattern = either(wanted)
        found = search(pattern, self._held) if pattern is not None else None
        if found is None or (found.partial and self._last):
            return self._last_words(found)
        self._say(found.start())
        if found.partial:
            return False
        if (found.lastgroup or "").startswith("hide"):
            self._drop(found.end() - found.start())
            return True
        self._begun = True
        if found.lastgroup == "think":
            self._drop(found.end() - found.start())
            self._state, self._trims = self._reason, True
            return True
        self._mark = self._drop(found.end() - found.start())
        return self._next_call()

    def _last_words(self, found: Match | None) -> bool:
        """Nothing more comes, or nothing that would matter; the beginning of a mark at the end is no text."""
        begins = found is not None and any(_begins(mark, self._held[found.start() :]) for mark in self._hidden)
        length = found.start() if found is not None and begins else len(self._held)
        self._say(length)
        if begins:
            self._held = ""
        return False

    def _bare(self, shape: Shape) -> bool:
        """At the beginning of an answer, an object with a name may be a call."""
        key = source(f'{{"{shape.name_key}":') if shape.kind == "object" else source('{"')
        chosen = decide(self._held, {"call": compiled(key)}, last=self._last)
        if chosen is None:
            return False
        self._begun = True
        return self._next_call() if chosen[0] else True

    def _reason(self) -> bool:
        if not self._trimmed():
            return False
        found = search(self._marks["close_think"], self._held)
        if found is None or (found.partial and self._last):
            self._out.reasoning += self._drop(len(self._held))
            return False
        self._out.reasoning += self._drop(found.start())
        if found.partial:
            return False
        self._drop(found.end() - found.start())
        self._state, self._trims = self._content, True
        return True

    def _next_call(self) -> bool:
        assert self._shape is not None
        kinds = {"object": self._object, "keyed": self._object, "curly": self._whole, "python": self._whole}
        self._state = kinds.get(self._shape.kind, self._named)
        self._call, self._value, self._name, self._first = None, None, "", "{"
        return True

    def _no_call(self) -> bool:
        """The mark is content after all, and what comes behind it is read as such."""
        self._held, self._raw = self._raw + self._held, ""
        self._out.text, self._mark = self._out.text + self._mark, ""
        self._begun, self._state = True, self._content
        return True

    def _object(self) -> bool:
        shape = self._shape
        assert shape is not None
        if not self._held:
            return False
        if self._call is None:
            self._call = Call(shape.name_key, None if shape.kind == "keyed" else shape.args_key)
        named = self._call.name is not None
        try:
            used, arguments = self._call.take(self._held)
        except ValueError:
            return self._no_call() if not named else self._over(len(self._held))
        self._raw += self._drop(used)
        if self._call.name is not None:
            if not named:
                self._begin(self._call.name)
            self._argue(arguments)
        if not self._call.done:
            return False
        return self._over(0) if self._call.name is not None else self._no_call()

    def _named(self) -> bool:
        """A name, up to what stands behind it."""
        shape = self._shape
        assert shape is not None
        lead = len(self._held) - len(self._held.lstrip())
        pattern = self._name_end(shape)
        found = pattern.search(self._held, lead, partial=True)
        start = found.start() if found is not None else len(self._held)
        name = self._held[lead:start].strip()
        over = found is not None and not found.partial
        if (name and _NAME.fullmatch(name) is None) or (not name and over) or (found is None and self._last):
            return self._no_call()
        if found is None or found.partial:
            return False
        length = found.end() if found.lastgroup == "after" else start
        self._raw += self._drop(length)
        if shape.prompted and name == _ALL:
            self._raw, self._state = "", self._content
            return True
        self._begin(name)
        self._state = self._argument if shape.kind == "tagged" else self._json
        return True

    def _name_end(self, shape: Shape) -> Pattern:
        if shape.after.strip():
            return compiled(f"(?P<after>{source(shape.after, exact=True)})")
        if shape.kind == "tagged":
            marks = either({name: one.pattern for name, one in self._marks.items() if name != "close_think"})
            assert marks is not None
            return marks
        return compiled(r"(?P<after>[^\S\n]*\n)" if "\n" in shape.after else r"(?P<after>\s+)")

    def _json(self) -> bool:
        if not self._held:
            return False
        if self._value is None:
            self._held = self._held.lstrip()
            if not self._held:
                return False
            self._value = Value()
        self._argue(self._drop(self._value.take(self._held)))
        return self._over(0) if self._value.done else False

    def _argument(self) -> bool:
        """Before an argument, or behind the last one."""
        names = [name for name in ("between", "close", "param") if name in self._marks]
        chosen = decide(self._held, {name: self._marks[name] for name in names}, last=self._last)
        if chosen is None:
            return False
        if chosen[0] == "param":
            self._drop(chosen[1])
            self._state = self._key_of
            return True
        if not chosen[0] and self._last and self._held.strip():
            return False  # it broke off within a mark
        self._argue("}" if self._first != "{" else "{}")
        return self._over(0)

    def _key_of(self) -> bool:
        assert self._shape is not None
        quotes = sorted(set(self._shape.quote.values()), key=len, reverse=True)
        pattern = either({f"q{i}": source(one.rstrip(), exact=True) for i, one in enumerate(quotes)})
        found = search(pattern, self._held) if pattern is not None else None
        if found is None or found.partial:
            return False
        self._key = self._drop(found.start()).strip()
        self._drop(found.end() - found.start())
        self._quote = quotes[int((found.lastgroup or "q0")[1:])]
        self._state = self._value_of
        return True

    def _value_of(self) -> bool:
        assert self._shape is not None
        ending = compiled(source(self._shape.unquote.replace(KEY, self._key), exact=True))
        found = ending.search(self._held, self._json_end(), partial=True)
        if found is None or found.partial:
            return False
        text = self._drop(found.start()).removeprefix(self._quote[len(self._quote.rstrip()) :])
        self._drop(found.end() - found.start())
        value = self._of_tags(text) or values.of_tag(text, self._schema(), self._said())
        self._argue(f"{self._first}{values.dumps(self._key)}: {value}")
        self._first = ", "
        self._state = self._argument
        return True

    def _json_end(self) -> int:
        """Where JSON that is no plain text ends: a mark within it is none. 0 where it is none, or broken."""
        lead = len(self._held) - len(self._held.lstrip())
        if (
            self._said() == "string"
            or values.is_text(self._schema())
            or self._held[lead : lead + 1] not in ("{", "[", '"')
        ):
            return 0
        value = Value()
        end = lead + value.take(self._held[lead:])
        return end if value.done or not self._last else 0

    def _of_tags(self, text: str) -> str:
        """JSON of an argument that has tags of its own in it; "" where it has none."""
        shape = self._shape
        assert shape is not None
        if KEY not in shape.unquote or not text.startswith(shape.param) or values.is_text(self._schema()):
            return ""
        try:
            return values.dumps(values.nested(text, shape.param, self._quote, shape.unquote))
        except ValueError:
            return ""

    def _schema(self) -> Mapping[str, Any]:
        """Of the present argument, where there is one."""
        found = self._schemas.get(self._name, {}).get("properties", {}).get(self._key)
        return found if isinstance(found, dict) else {}

    def _said(self) -> str | None:
        """The type that the mark before the value says it has."""
        assert self._shape is not None
        if len(set(self._shape.quote.values())) == 1:
            return None
        return next(kind for kind, one in self._shape.quote.items() if one == self._quote)

    def _whole(self) -> bool:
        """A call that is read at once, when it is there."""
        shape = self._shape
        assert shape is not None
        try:
            made = (
                values.python_call(self._held) if shape.kind == "python" else values.curly_call(self._held, shape.after)
            )
        except ValueError:
            return self._no_call()
        if made is None:
            return self._no_call() if self._last else False
        name, arguments, end = made
        self._drop(end)
        self._begin(name)
        self._argue(values.dumps(arguments))
        return self._over(0)

    def _after(self) -> bool:
        """Behind a call."""
        shape = self._shape
        assert shape is not None
        text = self._held.lstrip()
        if not text:
            self._held = ""
            return False
        if not shape.between.strip() and shape.parallel and text.startswith("{"):
            return self._next_call()
        names = [name for name in ("between", "close") if name in self._marks]
        chosen = decide(self._held, {name: self._marks[name] for name in names}, last=self._last)
        if chosen is None:
            return False
        if not chosen[0] and self._last and _begins(shape.close, text):
            self._held = ""
            return False
        self._mark = self._drop(chosen[1])
        if chosen[0] == "between":
            return self._next_call()
        self._state, self._trims = self._content, True
        return True

    def _begin(self, name: str) -> None:
        self._name, self._mark, self._raw, self._begun = name, "", "", True
        self._out.calls.append(CallPart(self._count, name, ""))
        self._count += 1

    def _argue(self, text: str) -> None:
        if text:
            self._out.calls.append(CallPart(self._count - 1, "", text))

    def _over(self, length: int) -> bool:
        self._drop(length)
        self._state = self._after
        return True

    def _say(self, length: int) -> bool:
        """So much of what is held is content."""
        text = self._drop(length)
        self._out.text += text
        self._begun = self._begun or bool(text.strip())
        self._state = self._content
        return False

    def _drop(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _flush(self) -> None:
        """The answer is over."""
        while self._state in (self._named, self._object) and not self._name and (self._mark or self._raw or self._held):
            self._no_call()
            while self._state():
                pass


def _begins(mark: str, text: str) -> bool:
    """Whether `text` is the beginning of a mark, but for white space, and not of that alone."""
    found = "".join(text.split())
    return bool(found) and "".join(mark.split()).startswith(found)
