"""An answer's text in pieces -> what of it is content, what reasoning, and what calls. Pure.

Whatever the pieces, the sum is the same. Text that turns out to be no call is content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from offgridd.engine.tools.calls import OneCall, Schemas, one_call
from offgridd.engine.tools.patterns import Match, Pattern, compiled, decide, either, search, source
from offgridd.engine.tools.shape import Dialect, Shape
from offgridd.engine.wire import CallPart

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

    def __init__(self, dialect: Dialect, schemas: Schemas | None = None, *, begun: bool = False) -> None:
        self._shape = dialect.shape if schemas is not None else None
        self._schemas, self._thinking, self._hidden = schemas or {}, dialect.thinking, dialect.hidden
        self._held, self._out, self._last = "", Out(), False
        self.calls = 0  # so many have begun
        self._call: OneCall | None = None
        self._named = False  # the present call has its name
        self._mark, self._raw = "", ""  # before the present call, and what was read of it: it may be none
        self._begun = False  # something of the answer was there
        self._trims = False  # white space comes next that belongs to a mark
        self._marks = _behind(self._shape)
        self._state: Callable[[], bool] = self._content
        if self._thinking is not None and self._thinking.started and not begun:
            self._state = self._reason
        elif self._shape is not None and self._shape.prompted:
            self._next_call()

    def push(self, text: str, *, last: bool = False) -> Out:
        """What is certain with this piece; `last`: there is no more."""
        self._held += text
        self._last = last
        self._run()
        while last and self._call is not None and (self._mark or self._raw or self._held) and self._unnamed():
            if self._raw.strip():  # as far as it went it was a call
                self._mark, self._raw, self._held = "", "", ""
                break
            self._no_call()
            self._run()
        out, self._out = self._out, Out()
        return out

    def _run(self) -> None:
        while self._state():
            pass

    def _unnamed(self) -> bool:
        """The present call has no name yet: it may be none."""
        return self._state == self._calling and not self._named

    # Each state below takes what it can of `_held`, and says whether there may be more to do.

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
        return False if found.partial else self._marked(found)

    def _marked(self, found: Match) -> bool:
        """A mark stands at the beginning of what is held."""
        mark, name = self._drop(found.end() - found.start()), found.lastgroup or ""
        if name.startswith("hide"):
            return True
        self._begun = True
        if name == "think":
            self._state, self._trims = self._reason, True
            return True
        self._mark = mark
        return self._next_call()

    def _last_words(self, found: Match | None) -> bool:
        """Nothing more comes, or nothing that would matter; the beginning of a mark at the end is no text."""
        begins = found is not None and any(begins_with(mark, self._held[found.start() :]) for mark in self._hidden)
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
        assert self._thinking is not None
        found = search(compiled(source(self._thinking.close)), self._held)
        if found is None or (found.partial and self._last):
            self._out.reasoning += self._drop(len(self._held))
            return False
        self._out.reasoning += self._drop(found.start())
        if found.partial:
            return False
        self._drop(found.end() - found.start())
        self._state, self._trims = self._content, True
        return True

    def _calling(self) -> bool:
        """Within a call."""
        assert self._call is not None
        assert self._shape is not None
        step = self._call.read(self._held, last=self._last)
        if step is None:
            return False
        if step.none:
            return self._no_call()
        text = self._drop(step.used)
        if step.name and self._shape.prompted and step.name == _ALL:
            self._call, self._raw, self._state = None, "", self._content
            return True
        if step.name:
            self._begin(step.name)
        elif not self._named:
            self._raw += text
        if step.arguments:
            self._out.calls.append(CallPart(self.calls - 1, "", step.arguments))
        if step.over:
            self._call, self._state = None, self._after
        return True

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
        chosen = decide(self._held, self._marks, last=self._last)
        if chosen is None:
            return False
        if not chosen[0] and self._last and begins_with(shape.close, text):
            self._held = ""
            return False
        mark = self._drop(chosen[1])
        if chosen[0] == "between":
            closed = self._marks["close"].match(mark) if "close" in self._marks else None
            self._mark = mark[closed.end() :].lstrip() if closed is not None else mark
            return self._next_call()
        self._state, self._trims = self._content, True
        return True

    def _next_call(self) -> bool:
        assert self._shape is not None
        self._call, self._named, self._state = one_call(self._shape, self._schemas, self._marks), False, self._calling
        return True

    def _no_call(self) -> bool:
        """The mark is content after all, and what comes behind it is read as such."""
        self._held, self._raw = self._raw + self._held, ""
        self._out.text, self._mark = self._out.text + self._mark, ""
        self._begun, self._call, self._state = True, None, self._content
        return True

    def _begin(self, name: str) -> None:
        self._named, self._mark, self._raw, self._begun = True, "", "", True
        self._out.calls.append(CallPart(self.calls, name, ""))
        self.calls += 1

    def _trimmed(self) -> bool:
        """Whether there is text, behind the white space that belongs to a mark."""
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        return bool(self._held)

    def _say(self, length: int) -> None:
        """So much of what is held is content."""
        text = self._drop(length)
        self._out.text += text
        self._begun = self._begun or bool(text.strip())

    def _drop(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


def _behind(shape: Shape | None) -> dict[str, Pattern]:
    """What may stand behind a call: first the longer one."""
    marks = {"between": shape.between, "close": shape.close} if shape is not None else {}
    return {name: compiled(source(mark)) for name, mark in marks.items() if mark.strip()}


def begins_with(mark: str, text: str) -> bool:
    """Whether `text` is the beginning of a mark, but for white space, and not of that alone."""
    found = "".join(text.split())
    return bool(found) and "".join(mark.split()).startswith(found)
