"""What a template is given: in its own way where it has one, and else in words that every template can take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.dialects import HERMES, LLAMA

from offgridd.engine.tools.history import composed, instructions
from offgridd.engine.tools.shape import DEFAULT, Dialect
from offgridd.engine.wire import Message, Tool, ToolCall

TOOL = Tool("f", '{"type": "function", "function": {"name": "f"}}', "{}")
ASK = Message("user", "What?")
CALLS = Message(
    "assistant", "I look.", None, (ToolCall("c1", "f", '{"a": 1}'), ToolCall("c2", "f", '{"a": 2}')), None, "hm"
)
ONE, TWO = Message("tool", "one", call_id="c1"), Message("tool", "two", call_id="c2")
TOLD = Dialect(DEFAULT, writes=False)  # nothing is known of the template


def test_a_template_with_a_way_of_its_own_is_given_what_it_expects() -> None:
    made = composed([ASK, CALLS, ONE, TWO], [TOOL], replace(HERMES, native=True))
    assert [one["role"] for one in made] == ["user", "assistant", "tool", "tool"]
    assert made[1]["tool_calls"] == [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": {"a": n}}} for n in (1, 2)
    ]
    assert (made[1]["reasoning_content"], made[2]["tool_call_id"]) == ("hm", "c1")
    assert HERMES.shape is not None
    texts = replace(HERMES, native=True, shape=replace(HERMES.shape, strings=True))
    assert composed([CALLS], [TOOL], texts)[0]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'  # type: ignore[index]


def test_one_that_takes_a_call_at_a_time_is_given_them_one_by_one() -> None:
    made = composed([ASK, CALLS, TWO, ONE, ASK], [TOOL], replace(LLAMA, native=True))
    assert [(one["role"], one["content"]) for one in made] == [
        ("user", "What?"), ("assistant", ""), ("tool", "two"), ("assistant", "I look."), ("tool", "one"),
        ("user", "What?"),
    ]  # fmt: skip
    unanswered = composed([ASK, CALLS], [TOOL], replace(LLAMA, native=True))
    assert [one["content"] for one in unanswered] == ["What?", "I look.", ""]


def test_one_that_knows_no_tools_is_told_in_words() -> None:
    made = composed([Message("system", "Be brief."), ASK, CALLS, ONE, TWO, ASK], [TOOL], TOLD)
    assert [one["role"] for one in made] == ["system", "user", "assistant", "user", "user"]
    system = str(made[0]["content"])
    assert system.startswith("Be brief.\n\n")
    assert TOOL.text in system
    assert '<tool_call>\n{"name": "NAME", "arguments": {"KEY": "VALUE"}}\n</tool_call>' in system
    assert str(made[2]["content"]).startswith(
        'I look.<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n<tool'
    )
    assert made[3]["content"] == "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>"
    assert "tool_calls" not in made[2]
    assert composed([ASK], [TOOL], TOLD)[0]["role"] == "system"
    (only,) = composed([ASK], [TOOL], replace(TOLD, system=False))
    assert only["content"] == f"{instructions([TOOL], DEFAULT)}\n\nWhat?"
    assert composed([ASK], [], TOLD) == [{"role": "user", "content": "What?"}]


def test_arguments_that_are_no_object_are_refused() -> None:
    with pytest.raises(ValueError, match="no object"):
        composed([Message("assistant", "", None, (ToolCall("c", "f", "[]"),))], [TOOL], replace(HERMES, native=True))
