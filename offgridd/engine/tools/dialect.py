"""All that is to be known of a template before its first answer: how it thinks, how it calls, what it can be told."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from offgridd.engine.render import TemplateError
from offgridd.engine.tools.learn import learn
from offgridd.engine.tools.pages import CONTENT, TOOL, Pages, shared, user
from offgridd.engine.tools.shape import DEFAULT, Dialect, Json, Shape, Thinking
from offgridd.engine.tools.stream import Reader

RenderWith = Callable[[Sequence[Json], bool, bool], str | None]  # as of `learn`, and whether with tools
PATIENCE: Final = 2.0  # seconds
_REASONS = "quiet reasons"
_LAST_MARK = re.compile(r"(<[^<>\s]+>\w*|<\|open\|>\w+<\|sep\|>|\[[A-Z_]+\])\s*$")
_FIRST_MARK = re.compile(r"\s*(<\|close\|>\w+<\|sep\|>|<[^<>\s]+>|\[/[A-Z_]+\])")
_PAIRS = (
    ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|channel>thought\n", "<channel|>"),
)  # fmt: skip
# What these say of calls stands in their words to the model, and not in what they write.
_KNOWN = (
    ("<|tool_call|>", Shape("object", "<|tool_call|>[", ", ", "]")),  # Granite 3
    ("List of tools: ", Shape("python", "<|tool_call_start|>[", ", ", "]<|tool_call_end|>")),  # LFM2
)
_SAMPLES: tuple[tuple[str, Json], ...] = (
    ("get_it", {"of": 'a "word"', "count": 3}), ("do_it", {"flag": True}), ("stop_it", {}),
)  # fmt: skip
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {"get_it": {"properties": {"of": {"type": "string"}}}}


class RendererPort(Protocol):
    def render(
        self, messages: Sequence[Json], tools: Sequence[Json], variables: None = None, *, answer: bool
    ) -> str: ...


def studied(template: str, renderer: RendererPort) -> Dialect:
    """What rendering a few messages tells of a template; nothing more where that takes too long."""
    until = time.monotonic() + PATIENCE

    def render(messages: Sequence[Json], answer: bool, tools: bool) -> str | None:
        if time.monotonic() > until:
            return None
        try:
            return renderer.render(messages, [TOOL] if tools else [], answer=answer)
        except TemplateError:
            return None

    return dialect_of(template, render)


def dialect_of(template: str, render: RenderWith) -> Dialect:
    def with_tools(messages: Sequence[Json], more: bool) -> str | None:
        return render(messages, more, True)

    def without(messages: Sequence[Json], more: bool) -> str | None:
        return render(messages, more, False)

    plain = Pages(without, strings=False)
    thinking = _thinking(template, plain)
    found = Dialect(None, thinking, hidden=_hidden(plain, thinking), system=_takes_system(without))
    native = "fnother" in (with_tools([user()], True) or "")
    draws = with_tools if native else without
    shape = learn(draws)
    if shape is not None and native and "<|start|>" in template and "<|message|>" in template:
        shape = replace(shape, open=shape.open.rpartition("<|message|>")[2], between="", parallel=False)
        return replace(found, shape=shape, native=True, channels=True, thinking=None, hidden=())
    if shape is not None and thinking is not None and thinking.close in shape.open:
        shape = replace(shape, open=shape.open.rpartition(thinking.close)[2])
    if shape is not None and _reads_back(Pages(draws, shape.strings), replace(found, shape=shape)):
        return replace(found, shape=shape, native=native)
    for mark, known in _KNOWN if native else ():
        if mark in template:
            return replace(found, shape=known, native=True, writes=False)
    return replace(found, shape=DEFAULT, writes=False)


def _thinking(template: str, pages: Pages) -> Thinking | None:
    text, prompt = _reasoned(pages), pages.prompt().rstrip()
    before, _, rest = text.partition(_REASONS)
    opening, closing = _LAST_MARK.search(before), _FIRST_MARK.match(rest.partition(CONTENT)[0])
    pairs = [(opening[1], closing[1])] if opening and closing else []
    for begin, end in [*pairs, *((a, b) for a, b in _PAIRS if a in template or b in template)]:
        return Thinking(begin, end, started=prompt.endswith(begin.rstrip()))
    return None


def _reasoned(pages: Pages) -> str:
    said: Json = {"role": "assistant", "content": CONTENT}
    return pages.tail(said | dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _REASONS)) or ""


def _hidden(pages: Pages, thinking: Thinking | None) -> tuple[str, ...]:
    """Marks around the text of an answer that are none of its text: some have words between control tokens."""
    head, _, end = (pages.tail({"role": "assistant", "content": CONTENT}) or "").partition(CONTENT)
    own = head[shared(head, pages.prompt()) :].strip()
    behind = ""
    if thinking is not None:
        own = own.replace(thinking.open.strip(), "").replace(thinking.close.strip(), "").strip()
        behind = _reasoned(pages).partition(_REASONS)[2].partition(CONTENT)[0].replace(thinking.close, "", 1).strip()
    begins = tuple(dict.fromkeys(one for one in (behind, own) if one.startswith("<")))
    return (*begins, end.strip()) if begins and end.strip() else begins


def _takes_system(render: Callable[[Sequence[Json], bool], str | None]) -> bool:
    text = render([{"role": "system", "content": CONTENT}, user()], True)
    return text is not None and CONTENT in text


def _reads_back(pages: Pages, dialect: Dialect) -> bool:
    """Whether calls as the template writes them are read as what they are."""
    shape = dialect.shape
    assert shape is not None
    samples = _SAMPLES if shape.parallel else _SAMPLES[:1]
    try:
        text = pages.of(*samples)
    except ValueError:
        return False
    if shape.prompted:
        text = text.strip().removeprefix(shape.open.strip())
    reader, calls = Reader(dialect, _SCHEMAS, begun=True), list[list[str]]()
    for part in reader.push(text, last=True).calls:
        if part.name:
            calls.append([part.name, ""])
        calls[part.index][1] += part.arguments
    try:
        return [(name, json.loads(text)) for name, text in calls] == list(samples)
    except ValueError:
        return False
