"""Answers of several messages, each with a header that says what it is: OpenAI's harmony, and templates like it. Pure.

A header names a channel, a recipient, or both: `<|channel|>analysis`, ` to=functions.NAME`. Source of the format:
the chat template of gpt-oss, and OpenAI's description of harmony.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offgridd.engine.tools.jsontext import Value
from offgridd.engine.tools.patterns import compiled, search, source
from offgridd.engine.tools.shape import Dialect
from offgridd.engine.tools.stream import Out, Reader
from offgridd.engine.wire import CallPart

ENDS = ("<|end|>", "<|eom|>", "<|call|>", "<|return|>", "<|eot|>")
MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", *ENDS)
_HEADER_END = compiled(source("<|message|>"))
_BODY_END = compiled("|".join(map(source, ENDS)))
_RECIPIENT = compiled(r"to=(?:functions\.)?([\w.:/-]+)")
_CHANNEL = compiled(r"<\|channel\|>\s*(\w+)")


class Channels:
    """As `stream.Reader`. The template has written `<|start|>assistant`."""

    def __init__(self, dialect: Dialect, schemas: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._dialect, self._schemas = dialect, schemas
        self._held, self._header = "", True
        self._inner: Reader | None = None  # of a call that is not plain JSON
        self._value: Value | None = None  # of one that is, up to its end
        self._where = ""
        self.calls = 0

    def push(self, text: str, *, last: bool = False) -> Out:
        self._held += text
        out = Out()
        while self._step(out, last):
            pass
        return out

    def _step(self, out: Out, last: bool) -> bool:
        if self._value is not None:
            return self._arguments(self._value, out)
        found = search(_HEADER_END if self._header else _BODY_END, self._held)
        if found is not None and found.partial and last:
            found = None
        if self._header:
            if found is None or found.partial:
                if last and self._held.strip() and "<|" not in self._held:
                    out.text += self._drop(len(self._held))  # it keeps to no header at all
                return False
            self._open(self._drop(found.end()), out)
            return True
        end = found.start() if found is not None else len(self._held)
        over = found is not None and not found.partial
        self._body(self._drop(end), out, over or last)
        if over and found is not None:
            self._drop(found.end() - found.start())
            self._header = True
        return over

    def _arguments(self, value: Value, out: Out) -> bool:
        """Text that looks like a mark is none while it is within JSON."""
        text = self._drop(value.take(self._held))
        if text:
            out.calls.append(CallPart(self.calls - 1, "", text))
        if value.done:
            self._value, self._where = None, "over"
        return value.done

    def _open(self, header: str, out: Out) -> None:
        self._header = False
        recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
        name = recipient[1] if recipient else ""
        shape, known = self._dialect.shape, self._schemas is not None
        if name == "self" or (not name and channel is not None and channel[1] == "analysis"):
            self._where = "reasoning"
        elif known and name not in ("", "user", "assistant", "all"):
            self._where = "call"
            if shape is not None and shape.kind == "tagged":
                self._inner = Reader(Dialect(shape), self._schemas)
            else:
                out.calls.append(CallPart(self.calls, name, ""))
                self.calls += 1
                self._value = Value()
        else:
            self._where = "text"

    def _body(self, text: str, out: Out, over: bool) -> None:
        if self._where == "reasoning":
            out.reasoning += text
        elif self._where == "text":
            out.text += text
        elif self._inner is not None:
            made = self._inner.push(text, last=over)
            out.text += made.text
            out.calls += [CallPart(one.index + self.calls, one.name, one.arguments) for one in made.calls]
            if over:
                self.calls += self._inner.calls
                self._inner = None

    def _drop(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


def reader(dialect: Dialect, schemas: Mapping[str, Mapping[str, Any]] | None) -> Reader | Channels:
    """What reads an answer of this dialect; `schemas` None: there are no tools."""
    return Channels(dialect, schemas) if dialect.channels else Reader(dialect, schemas)
