"""What a grammar of forced calls allows is calls that match their schemas, for every template; and what it refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from llguidance import LLMatcher, LLTokenizer
from support.dialects import GEMMA, HARMONY, HERMES, LFM, QWEN_CODER, read, studied_here
from support.jsonschema import valid
from support.templates import templates

from offgridd.engine.tools.channels import reader
from offgridd.engine.tools.force import MOST_CALLS, ForceError, forced, guarded, marks_of
from offgridd.engine.tools.shape import DEFAULT, Dialect

BYTES = LLTokenizer("byte")
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "get_weather": {
        "type": "object", "required": ["city", "unit"],
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 0, "maximum": 9},
                       "unit": {"type": "string", "enum": ["C", "F"]}},
    },
    "add": {
        "type": "object", "required": ["a"],
        "properties": {"a": {"type": "number"}, "b": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
                       "o": {"type": "object", "properties": {"z": {"type": "boolean"}}, "required": ["z"]}},
    },
    "now": {"type": "object", "properties": {}},
}  # fmt: skip
PLEASANT = frozenset(b" abcxyz0123456789\"'{}[]<>/=,:|._\n")


def split(text: str) -> list[str | int]:
    """The vocabulary of these tests has no control tokens."""
    return [text] if text else []


def walked(grammar: str, marks: list[str], rnd: random.Random, most: int = 1500) -> str | None:
    """Something that the grammar allows; None: it did not come to an end."""
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    made = bytearray()
    while len(made) < most and not matcher.is_stopped():
        if matcher.is_accepting() and rnd.random() < 0.5:
            break
        wanted = rnd.choice(marks).strip().encode() if rnd.random() < 0.3 else b""
        for one in wanted or bytes([_one(matcher, rnd)]):
            if matcher.is_stopped() or one not in _allowed(matcher):
                break
            assert matcher.consume_token(one)
            made.append(one)
    return made.decode("utf-8", "replace") if matcher.is_accepting() else None


def _allowed(matcher: LLMatcher) -> set[int]:
    mask = np.zeros((BYTES.vocab_size + 31) // 32, np.uint32)
    matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[:256]).tolist())


def _one(matcher: LLMatcher, rnd: random.Random) -> int:
    allowed = _allowed(matcher)
    return rnd.choice(sorted(allowed & PLEASANT) or sorted(allowed))


def calls_of(found: Dialect, text: str) -> tuple[str, list[tuple[str, Any]]]:
    out = reader(found, SCHEMAS).push(text, last=True)
    calls = list[list[str]]()
    for part in out.calls:
        if part.name:
            calls.append([part.name, ""])
        calls[part.index][1] += part.arguments
    return out.text, [(name, json.loads(arguments)) for name, arguments in calls]


@pytest.mark.timeout(240)
def test_for_every_template_what_is_forced_is_calls_that_match() -> None:
    rnd, ended = random.Random(3), 0
    for name, text in templates():
        found = studied_here(text)
        grammar = forced(found, SCHEMAS, split, parallel=True)
        for _ in range(4):
            marks = ["<|end|>"] if found.channels else marks_of(found) or [""]  # in theirs, marks are no text
            answer = walked(grammar, marks, rnd)
            if answer is None:
                continue
            said, calls = calls_of(found, answer)
            assert not said.strip(), (name, answer)
            assert 1 <= len(calls) <= MOST_CALLS, (name, answer)
            for tool, arguments in calls:
                assert valid(arguments, SCHEMAS[tool], {}), (name, answer)
            ended += 1
    assert ended > 200


def allows(grammar: str, text: str) -> bool:
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and matcher.is_accepting()


def test_for_every_template_an_answer_may_be_free_where_its_calls_are_guarded() -> None:
    for name, text in templates():
        found = studied_here(text)
        grammar = guarded(found, SCHEMAS, split, parallel=True)
        head = "<|channel|>final<|message|>" if name.startswith("openai") else "<|message|>" if found.channels else ""
        head = "all\n" if found.shape is not None and found.shape.prompted else head
        thought = "hm</think>" if found.thinking is not None and found.channels else ""
        assert allows(grammar, f"{thought}{head}Hello there."), name


def test_a_free_answer_has_no_call_that_does_not_match() -> None:
    grammar = guarded(HERMES, SCHEMAS, split, parallel=True)
    call = '<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "x", "unit": "{}"}}}}\n</tool_call>'
    assert allows(grammar, f"Look: {call.format('C')}\nand {call.format('F')}.")
    assert not allows(grammar, f"Look: {call.format('K')}")
    assert not allows(grammar, "Look: <tool_call>\n{}")
    both = guarded(HERMES, SCHEMAS, split, parallel=True, content='{"type": "array", "items": {"type": "integer"}}')
    assert allows(both, "[1, 2]")
    assert allows(both, call.format("C"))
    assert not allows(both, "Hello")


def test_reasoning_may_come_first_and_one_call_is_one() -> None:
    one = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    grammar = forced(HERMES, SCHEMAS, split, parallel=False)
    assert allows(grammar, one)
    assert allows(grammar, f"<think>\nlet me see</think>\n\n{one}")
    assert not allows(grammar, f"{one}\n{one}")
    assert allows(forced(HERMES, SCHEMAS, split, parallel=True), f"{one}\n{one}")
    assert not allows(grammar, "Hello")
    analysis = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    call = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>"
    assert allows(forced(HARMONY, SCHEMAS, split, parallel=True), analysis + call)


TEXTS: list[tuple[dict[str, Any], str, bool]] = [
    ({"minLength": 2, "maxLength": 3}, "ab", True), ({"minLength": 2, "maxLength": 3}, "a", False),
    ({"pattern": "^[a-c]+$"}, "abc", True), ({"pattern": "^[a-c]+$"}, "abd", False), ({"pattern": "b"}, "abd", True),
    ({"const": "x/y"}, "x/y", True), ({"enum": ["a", "b"]}, "c", False), ({}, 'any "thing"\nat < all', True),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "good"), TEXTS)
def test_text_in_tags_keeps_to_its_schema(rule: dict[str, Any], text: str, good: bool) -> None:
    schemas = {"f": {"properties": {"s": {"type": "string", **rule}}, "required": ["s"]}}
    grammar = forced(QWEN_CODER, schemas, split, parallel=False)
    answer = f"<tool_call>\n<function=f>\n<parameter=s>\n{text}\n</parameter>\n</function>\n</tool_call>"
    assert allows(grammar, answer) == good
    assert read(QWEN_CODER, [answer])[1] == [("f", json.dumps({"s": text}))]


def test_arguments_that_are_not_needed_may_be_left_out_in_their_order() -> None:
    schemas = {"f": {"properties": {key: {"type": "integer"} for key in "abc"}}}
    for found, form in ((LFM, "<start>[f({})]<end>"), (GEMMA, "<call>call:f{{{}}}</call>")):
        grammar, comma, equals = (
            forced(found, schemas, split, parallel=True),
            (", " if found is LFM else ","),
            "=:"[found is GEMMA],
        )
        for keys, good in (
            ("", True),
            ("a", True),
            ("ac", True),
            ("abc", True),
            ("bc", True),
            ("ba", False),
            ("aa", False),
        ):
            assert allows(grammar, form.format(comma.join(f"{key}{equals}1" for key in keys))) == good, (found, keys)


def test_keys_that_a_schema_does_not_name_are_not_written() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schemas = {
        "f": {"properties": {"o": inner, "free": {**inner, "additionalProperties": True}, "l": {"items": inner}}}
    }
    grammar = forced(HERMES, schemas, split, parallel=False)
    call = '<tool_call>\n{{"name": "f", "arguments": {}}}\n</tool_call>'
    for arguments, good in (
        ('{"o": {"x": 1}}', True), ('{"o": {"y": 1}}', False), ('{"free": {"y": 1}}', True),
        ('{"l": [{"y": 1}]}', False), ('{"z": 1}', False),
    ):  # fmt: skip
        assert allows(grammar, call.format(arguments)) == good, arguments


def test_control_tokens_are_told_by_number_and_what_can_not_be_forced_is_refused() -> None:
    special = Dialect(replace(DEFAULT, open="<T>", between="</T><T>", close="</T>"))
    grammar = forced(
        special, SCHEMAS, lambda text: [7 if text == "<T>" else text] if text != "</T><T>" else [8, 7], parallel=True
    )
    assert "<[7]>" in grammar
    assert "<[8]> <[7]>" in grammar
    with pytest.raises(ForceError, match="required and not among the properties"):
        forced(QWEN_CODER, {"f": {"properties": {}, "required": ["x"]}}, split, parallel=True)
    with pytest.raises(ForceError, match="can not keep to format of a string"):
        forced(QWEN_CODER, {"f": {"properties": {"d": {"type": "string", "format": "date"}}}}, split, parallel=True)
    with pytest.raises(ForceError, match="name each type"):
        forced(GEMMA, {"f": {"properties": {"d": {}}}}, split, parallel=True)


WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "enum",
        "const",
        "items",
        "anyOf",
        "$ref",
        "pattern",
        "minLength",
        "maxItems",
        "s",
    ]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["string", "object", "array", "x", "^a+$", "("])
)
SCHEMA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(WORDS, SCHEMA, max_size=5),
    st.sampled_from([HERMES, QWEN_CODER, GEMMA, LFM, HARMONY]),
    st.sampled_from([forced, guarded]),
)
def test_whatever_a_request_calls_a_schema_is_a_grammar_or_refused(
    schema: dict[str, Any], found: Dialect, make: Callable[..., str]
) -> None:
    try:
        grammar = make(found, {"f": schema}, split, parallel=True)
    except ForceError:
        return
    assert LLMatcher(BYTES, grammar, log_level=0) is not None
