# ruff: noqa: E501 - transcripts are easier to read in one piece
"""Answers as models write them: loosely, cut short, with text around; in pieces as whole; and never an exception."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from support.dialects import (
    DEEPSEEK,
    FUNCTIONARY,
    GEMMA,
    GRANITE,
    HARMONY,
    HERMES,
    LFM,
    LLAMA,
    MISTRAL,
    MUSE,
    NEMO,
    QWEN_CODER,
    Read,
    read,
)  # fmt: skip

from offgridd.engine.tools.jsontext import Call, Value
from offgridd.engine.tools.shape import Dialect

ONE, TWO = ("f", '{"n": 1}'), ("g", "{}")
TRANSCRIPTS: list[tuple[Dialect, str, Read]] = [
    (HERMES, "Hello.\n", ("Hello.\n", [], "")),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>', ("", [ONE], "")),
    (HERMES, '<tool_call>{"name":"f","arguments":{"n": 1}}</tool_call>', ("", [ONE], "")),
    (HERMES, 'I look.\n<tool_call>\n{"arguments": {"n": 1}, "name": "f"}\n</tool_call>\n', ("I look.", [ONE], "")),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"n\\": 1}"}</tool_call>', ("", [ONE], "")),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"n": 1}}\n</tool_call>\n<tool_call>\n{"name": "g", "arguments":'
             " {}}\n</tool_call>", ("", [ONE, TWO], "")),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call> and <tool_call>{"name": "g", "arguments": {}}'
             "</tool_call>", ("and", [ONE, TWO], "")),
    (HERMES, '<think>\nIs it <tool_call>?\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"n": 1}}',
     ("", [ONE], "Is it <tool_call>?")),
    (HERMES, "<think>\nand then", ("", [], "and then")),
    (HERMES, 'a <tool_call> is "<tool_call>"', ('a <tool_call> is "<tool_call>"', [], "")),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"s": "}</tool_call>{"}}\n</tool_call>',
     ("", [("f", '{"s": "}</tool_call>{"}')], "")),
    (HERMES, '<tool_call>\n{"name": "f", "arguments": {"n": 12', ("", [("f", '{"n": 12')], "")),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"n": 1}}\n</tool_call>\n<tool_call>\n{"nam', ("", [ONE], "")),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"n": 1}}\n</tool_call>\n<tool_call>\n?', ("<tool_call>\n?", [ONE], "")),
    (HERMES, "1 < 2 and <tool", ("1 < 2 and <tool", [], "")),
    (LLAMA, '{"name": "f", "parameters": {"n": 1}}', ("", [ONE], "")),
    (LLAMA, '{ "type": "x" }', ('{ "type": "x" }', [], "")),
    (LLAMA, 'Look: {"name": "f", "parameters": {}}', ('Look: {"name": "f", "parameters": {}}', [], "")),
    (MISTRAL, '[TOOL_CALLS]f[ARGS]{"n": 1}[TOOL_CALLS]g[ARGS]{}', ("", [ONE, TWO], "")),
    (MISTRAL, "Yes. [TOOL_CALLS] no call at all", ("Yes. [TOOL_CALLS] no call at all", [], "")),
    (NEMO, '[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}, "id": "a23456789"}, {"name":"g","arguments":{}}]',
     ("", [ONE, TWO], "")),
    (GRANITE, '<|tool_call|>[ {"name": "f", "arguments": {"n": 1}} ,{"name": "g", "arguments": {}}]', ("", [ONE, TWO], "")),
    (DEEPSEEK, 'I think</think>\n\n<calls><call>f<sep>{"n": 1}</call><call>g<sep>{}</call></calls>',
     ("", [ONE, TWO], "I think")),
    (QWEN_CODER, "Well.\n<tool_call>\n<function=f>\n<parameter=s>\n two\nlines \n</parameter>\n<parameter=n>\n7\n</parameter>"
                 "\n</function>\n</tool_call>", ("Well.", [("f", '{"s": " two\\nlines ", "n": 7}')], "")),
    (QWEN_CODER, "<tool_call>\n<function=g>\n</function>\n</tool_call>\n<tool_call><function=f><parameter=o>{\"a\": [1]}"
                 "</parameter></function></tool_call>", ("", [TWO, ("f", '{"o": {"a": [1]}}')], "")),
    (QWEN_CODER, "<tool_call>\n<function=f>\n<parameter=s>\nab", ("", [("f", "")], "")),
    (GEMMA, '<call>call:f{s:<|"|>a}b<|"|>,n:3,o:{k:[1,true,<|"|>x<|"|>]}}</call><call>call:g{}</call>',
     ("", [("f", '{"s": "a}b", "n": 3, "o": {"k": [1, true, "x"]}}'), TWO], "")),
    (LFM, "<start>[f(s='it\\'s (so)', n=3, o={'a': None}), g()]<end>",
     ("", [("f", '{"s": "it\'s (so)", "n": 3, "o": {"a": null}}'), TWO], "")),
    (FUNCTIONARY, 'f\n{"n": 1}>>>g\n{}', ("", [ONE, TWO], "")),
    (FUNCTIONARY, "all\nHello >>> you", ("Hello >>> you", [], "")),
    (HARMONY, "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>"
              'json<|message|>{"n": 1}<|call|>', ("", [ONE], "Hm.")),
    (HARMONY, ' to=functions.f<|channel|>commentary json<|message|>{"n": 1}<|call|>', ("", [ONE], "")),
    (HARMONY, "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>So.<|return|>",
     ("I look.So.", [], "")),
    (HARMONY, "It keeps to nothing", ("It keeps to nothing", [], "")),
    (MUSE, ' to=self<|message|>Hm.<|eom|><|start|>assistant to=f<|message|><f>\n<i name="f">\n<p name="n">1</p>\n</i>\n</f>'
           "<|eom|><|start|>assistant to=g<|message|><f>\n<i name=\"g\">\n</i>\n</f><|eot|>", ("", [ONE, TWO], "Hm.")),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "text", "expected"), TRANSCRIPTS)
def test_an_answer_is_read_the_same_whole_and_letter_by_letter(dialect: Dialect, text: str, expected: Read) -> None:
    assert read(dialect, [text]) == expected
    assert read(dialect, list(text)) == expected


def test_without_tools_nothing_is_a_call() -> None:
    text = '<think>x</think><tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert read(HERMES, [text], None) == (text.removeprefix("<think>x</think>"), [], "x")


DIALECTS = [HERMES, LLAMA, MISTRAL, NEMO, DEEPSEEK, QWEN_CODER, GEMMA, LFM, FUNCTIONARY, HARMONY, MUSE]
BITS = st.sampled_from([
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "{", "}", '"', "\\", '"name": ', '"f"', '"arguments": ', "[", "]",
    ", ", "<think>", "</think>", "<function=f>", "<parameter=s>", "</parameter>", "</function>", "\n", " ", "f", "(", ")", "=",
    "'", "<call>call:", "</call>", '<|"|>', ":", "<start>[", "]<end>", ">>>", "all\n", "<|channel|>", "<|message|>", "<|end|>",
    " to=f", "<|start|>assistant", "<calls><call>", "<sep>", "1", "ü", "<",
])  # fmt: skip


@given(st.sampled_from(DIALECTS), st.lists(BITS, max_size=14), st.data())
def test_pieces_do_not_matter_and_nothing_is_raised(dialect: Dialect, bits: list[str], data: st.DataObject) -> None:
    text = "".join(bits)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(dialect, pieces) == read(dialect, list(text))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(-9, 9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3))  # fmt: skip


@given(JSON, st.sampled_from(["", " ", ",", "}", "]"]))
def test_where_a_value_ends(value: Any, behind: str) -> None:
    text = json.dumps(value)
    if behind == "" and not isinstance(value, str | list | dict):
        return  # a number may always go on
    whole, single = Value(), Value()
    assert whole.take(text + behind) == len(text)
    assert sum(single.take(char) for char in text + behind) == len(text)
    assert whole.done == single.done == (behind != "" or isinstance(value, str | list | dict))


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), st.booleans(), st.booleans(), st.integers(1, 7))
def test_a_call_as_an_object_passes_its_arguments_on(arguments: Any, first: bool, quoted: bool, step: int) -> None:
    written = json.dumps(arguments, ensure_ascii=False)
    pair = [("name", '"f"'), ("arguments", json.dumps(written) if quoted else written)]
    text = "{" + ", ".join(f'"{key}": {one}' for key, one in (pair if first else pair[::-1])) + ', "id": "x"}'
    call, got = Call("name", "arguments"), ""
    for at in range(0, len(text), step):
        used, more = call.take(text[at : at + step])
        assert used == len(text[at : at + step])
        got += more
    assert (call.name, got, call.done) == ("f", written, True)
