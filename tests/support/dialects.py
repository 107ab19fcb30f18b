"""Dialects as templates have them, made by hand, and what reads their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offgridd.engine.tools.channels import reader
from offgridd.engine.tools.dialect import dialect_of
from offgridd.engine.tools.pages import TOOL
from offgridd.engine.tools.shape import DEFAULT, Dialect, Shape, Thinking
from support.templates import Rendering

THINK = Thinking("<think>", "</think>")
HERMES = Dialect(DEFAULT, THINK)
LLAMA = Dialect(Shape("object", "", "", "", args_key="parameters", parallel=False, bare=True))
MISTRAL = Dialect(Shape("named", "[TOOL_CALLS]", "[TOOL_CALLS]", "", after="[ARGS]"))
NEMO = Dialect(Shape("object", "[TOOL_CALLS][", ", ", "]", extras=(("id", "\x00"),)))
GRANITE = Dialect(Shape("object", "<|tool_call|>[", ", ", "]"))
DEEPSEEK = Dialect(
    Shape("named", "<calls><call>", "</call><call>", "</call></calls>", after="<sep>"),
    Thinking("<think>", "</think>", True),
)
TAG = dict.fromkeys(("string", "number", "boolean", "null", "object", "array"), ">\n")
QWEN_CODER = Dialect(
    Shape("tagged", "<tool_call>\n<function=", "\n</function>\n</tool_call>\n<tool_call>\n<function=",
          "\n</function>\n</tool_call>", after=">", param="\n<parameter=", quote=TAG, unquote="\n</parameter>")
)  # fmt: skip
GEMMA = Dialect(Shape("curly", "<call>call:", "</call><call>call:", "</call>", after='<|"|>'))
LFM = Dialect(Shape("python", "<start>[", ", ", "]<end>"))
FUNCTIONARY = Dialect(Shape("named", ">>>", ">>>", "", after="\n", prompted=True))
HARMONY = Dialect(Shape("named", "", "", "<|call|>", after="<|channel|>"), channels=True, native=True)
MUSE = Dialect(
    Shape("tagged", '<f>\n<i name="', "", "\n</i>\n</f>", after='">', param='\n<p name="',
          quote=dict.fromkeys(TAG, '">'), unquote="</p>", parallel=False), channels=True, native=True,
)  # fmt: skip
SCHEMAS: dict[str, dict[str, Any]] = {
    "f": {"properties": {"s": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": "object"}}},
    "g": {"properties": {}},
}
Read = tuple[str, list[tuple[str, str]], str]


def read(dialect: Dialect, pieces: list[str], tools: Mapping[str, Mapping[str, Any]] | None = SCHEMAS) -> Read:
    """Content, calls with their arguments as text, and reasoning; `tools`: the schemas by name, None without tools."""
    got = reader(dialect, tools)
    content, reasoning, calls = "", "", list[list[str]]()
    for number, piece in enumerate([*pieces, ""]):
        out = got.push(piece, last=number == len(pieces))
        content, reasoning = content + out.text, reasoning + out.reasoning
        for part in out.calls:
            if part.name:
                assert part.index == len(calls)
                calls.append([part.name, ""])
            calls[part.index][1] += part.arguments
    return content, [(name, arguments) for name, arguments in calls], reasoning


def studied_here(text: str) -> Dialect:
    """What is found out of a template, in this process."""
    drawn = Rendering(text)
    return dialect_of(
        text, lambda messages, answer, told: drawn.render(messages, [TOOL] if told else [], answer=answer)
    )
