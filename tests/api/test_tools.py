"""Tools, calls and their results in a request: every mistake has its name, and what is right crosses unchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offgridd.api.chat import parse_chat
from offgridd.api.completion import whole
from offgridd.core.errors import RequestRefused
from offgridd.engine import wire

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, Any] = {"model": "m", "messages": [USER]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


def said(**message: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", **message}]}


def called(arguments: object) -> dict[str, Any]:
    return said(tool_calls=[{**CALL, "function": {"name": "f", "arguments": arguments}}])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        (tool(name="a b"), "tools[0].function.name"),
        (tool(name="x" * 65), "tools[0].function.name"),
        (tool(parameters=[]), "tools[0].function.parameters"),
        (tool(parameters={"type": "array"}), "tools[0].function.parameters"),
        (tool(strict="yes"), "tools[0].function.strict"),
        (tool(description=5), "tools[0].function.description"),
        (tool(description="x" * 300_000), "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"name": "f"}}, "tool_choice"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        (said(content=None), "messages[1].content"),
        (said(tool_calls={}), "messages[1].tool_calls"),
        (said(tool_calls=[{"id": "c"}]), "messages[1].tool_calls[0]"),
        (said(tool_calls=[{**CALL, "id": None}]), "messages[1].tool_calls[0]"),
        (called("{"), "messages[1].tool_calls[0].function.arguments"),
        (called("[]"), "messages[1].tool_calls[0].function.arguments"),
        (called({}), "messages[1].tool_calls[0].function.arguments"),
        (said(content="", reasoning_content=5), "messages[1].reasoning_content"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{**USER, "tool_call_id": "c"}]}, "messages[0].tool_call_id"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"reasoning_effort": "most"}, "reasoning_effort"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"a b": "x"}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"x": []}}, "chat_template_kwargs"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_parameter(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_chat({**GOOD, **change})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_what_is_right_crosses_as_it_is() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"}, result]
    named = {"type": "function", "function": {"name": "f"}}
    asked = {"messages": messages, "tools": [TOOL], "tool_choice": named, "parallel_tool_calls": False}
    made = parse_chat({**GOOD, **asked, "reasoning_effort": "none", "chat_template_kwargs": {"lang": "de"}})
    assert made.messages[1] == wire.Message(
        "assistant", "", None, (wire.ToolCall("c1", "f", '{"city": "Oslo"}'),), None, "hm"
    )
    assert made.messages[2] == wire.Message("tool", "rain", call_id="c1")
    told = made.tools
    assert (told.choice, told.only, told.parallel) == ("required", "f", False)
    assert (told.tools[0].name, json.loads(told.tools[0].schema), told.tools[0].strict) == ("f", SCHEMA, True)
    shown = json.loads(told.tools[0].text)
    assert shown == {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
    assert json.loads(made.template_args) == {"lang": "de", "reasoning_effort": "none", "enable_thinking": False}
    without = parse_chat({**GOOD, "tools": [TOOL], "tool_choice": "none"})
    assert without.tools.tools == ()
    assert json.loads(parse_chat({**GOOD, **tool()}).tools.tools[0].schema) == {"type": "object", "properties": {}}


async def test_a_whole_answer_has_its_calls_and_reasoning() -> None:
    parts = (
        wire.CallPart(0, "f", ""),
        wire.CallPart(0, "", '{"a":'),
        wire.CallPart(0, "", "1}"),
        wire.CallPart(1, "g", "{}"),
    )

    async def frames(reason: str) -> Any:
        yield wire.Tokens(
            (wire.Item(1, "", None, "I th"), wire.Item(1, "", None, "ink"), wire.Item(1, "", None, "", parts))
        )
        yield wire.Finish(1, reason, 5, 9)

    made = await whole({}, [1], frames("stop"))
    choice = made["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == (None, "I think")
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'}, {"name": "g", "arguments": "{}"}
    ]  # fmt: skip
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert (await whole({}, [1], frames("length")))["choices"][0]["finish_reason"] == "length"
