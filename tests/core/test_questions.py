"""Which answers are right."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from support.jsonschema import valid

from offgridd.core.questions import QUESTIONS, Answer, Question, digest, is_right

BY_NAME = {one.name: one for one in QUESTIONS}


def test_each_question_has_a_name_of_its_own_and_one_way_to_be_judged() -> None:
    assert len(BY_NAME) == len(QUESTIONS)
    assert all(bool(one.right) + bool(one.keys) + bool(one.call) == 1 for one in QUESTIONS)
    assert all(one.tools for one in QUESTIONS if one.call)
    assert all(answer == answer.lower().strip(" .!\"'`*") for one in QUESTIONS for answer in one.right)
    assert len(digest()) == 64


@pytest.mark.parametrize("answer", ["Paris", " paris.\n", "**Paris**", '"Paris"', "PARIS!"])
def test_a_short_answer_counts_however_it_is_dressed(answer: str) -> None:
    assert is_right(BY_NAME["capital"], Answer(answer))


@pytest.mark.parametrize("answer", ["", "The capital of France is Paris.", "Paris, France", "London", "Pari s"])
def test_another_or_a_longer_one_does_not(answer: str) -> None:
    assert not is_right(BY_NAME["capital"], Answer(answer))


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Ann", "age": 3}', '\n {"age": 3, "name": "Ann", "more": null}\n',
     '```json\n{"name": "a", "age": 1}\n```',
     '```\n{\n "name": "a",\n "age": 1}\n```\n'],
)  # fmt: skip
def test_an_object_with_the_keys_counts(answer: str) -> None:
    assert is_right(BY_NAME["person"], Answer(answer))


@pytest.mark.parametrize(
    "answer",
    ["", "{}", "[]", "null", '{"name": "Ann"}', '{"name": "Ann", "age": 3', "{'name': 'Ann', 'age': 3}",
     'Here you are: {"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3} I hope it helps', '["name", "age"]',
     '```json\n{"name": "a", "age": 1}\n```\nDone.', "[" * 100_000],
)  # fmt: skip
def test_anything_else_does_not(answer: str) -> None:
    assert not is_right(BY_NAME["person"], Answer(answer))


@pytest.mark.parametrize("question", [one for one in QUESTIONS if one.keys], ids=lambda one: one.name)
def test_what_is_asked_for_can_be_answered(question: Question) -> None:
    asked = question
    assert is_right(asked, Answer(json.dumps(dict.fromkeys(asked.keys, 1))))


@pytest.mark.parametrize("question", [one for one in QUESTIONS if not one.call], ids=lambda one: one.name)
def test_examples_go_before_it_and_do_not_give_it_away(question: Question) -> None:
    *examples, asked = question.turns
    assert (asked, len(examples) % 2) == (question.text, 0)
    assert len(examples) >= 2
    assert not any(is_right(question, Answer(answer)) for answer in examples[1::2])


CALLED = [one for one in QUESTIONS if one.call]


def calls_of(question: Question) -> list[tuple[str, dict[str, Any]]]:
    """All that are right."""
    assert question.call is not None
    names, values = question.call.arguments.keys(), question.call.arguments.values()
    return [(question.call.name, dict(zip(names, chosen, strict=True))) for chosen in product(*values)]


def called(question: Question, name: str, arguments: object, text: str = "") -> bool:
    return is_right(question, Answer(text, ((name, json.dumps(arguments)),)))


@pytest.mark.parametrize("question", CALLED, ids=lambda one: one.name)
def test_the_right_call_is_one_of_a_tool_that_was_declared(question: Question) -> None:
    schemas = {tool.name: tool.function["parameters"] for tool in question.tools}
    for name, arguments in calls_of(question):
        assert valid(arguments, schemas[name], {})
        assert called(question, name, arguments)
        assert called(question, name, dict(reversed(arguments.items())), "I will see.")


@pytest.mark.parametrize("question", CALLED, ids=lambda one: one.name)
def test_no_other_call_and_not_two_are_right(question: Question) -> None:
    name, arguments = calls_of(question)[0]
    right = (name, json.dumps(arguments))
    for other in {tool.name for one in QUESTIONS for tool in one.tools} - {name} | {"", name.upper()}:
        assert not called(question, other, arguments)
    assert not called(question, name, {**arguments, "more": None})
    for key in arguments:
        assert not called(question, name, {other: value for other, value in arguments.items() if other != key})
        for wrong in (None, "", "Rome", 1, 0, True, [arguments[key]], str(arguments[key]) + " "):
            assert not called(question, name, {**arguments, key: wrong})
    for written in ("", "[]", "null", right[1][:-1], right[1] + "}", "[" * 100_000, json.dumps(right[1])):
        assert not is_right(question, Answer("", ((name, written),)))
    assert not is_right(question, Answer("", (right, right)))
    assert not is_right(question, Answer("", (right, ("other", "{}"))))
    assert not is_right(question, Answer(json.dumps({"name": name, "arguments": arguments})))
    assert not is_right(question, Answer(""))


def test_a_number_is_right_however_it_is_written_and_no_other_kind_is() -> None:
    assert called(BY_NAME["timer"], "set_timer", {"minutes": 20.0})
    assert not called(BY_NAME["timer"], "set_timer", {"minutes": "20"})
    assert not called(BY_NAME["light"], "set_light", {"room": "kitchen", "on": 0})


def test_where_no_tool_fits_the_answer_is_right_and_calls_none() -> None:
    neither = BY_NAME["neither"]
    assert (len(neither.tools), neither.call) == (2, None)
    assert is_right(neither, Answer("Rome."))
    assert not is_right(neither, Answer("Rome.", (("get_weather", "{}"),)))
    assert not is_right(neither, Answer("Milan"))
    assert not is_right(neither, Answer(""))


def test_questions_with_tools_stand_behind_the_others_and_one_has_a_choice() -> None:
    assert [bool(one.tools) for one in QUESTIONS] == sorted(bool(one.tools) for one in QUESTIONS)
    assert any(len(one.tools) > 1 for one in CALLED)


def test_the_digest_tells_other_tools_and_other_right_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {digest()}
    weather = BY_NAME["weather"]
    assert weather.call is not None
    named = replace(weather.tools[0], description="Something else.")
    for changed in (
        replace(weather, tools=(named,)),
        replace(weather, call=replace(weather.call, arguments={**weather.call.arguments, "city": ("Rome",)})),
    ):
        others = tuple(changed if one is weather else one for one in QUESTIONS)
        monkeypatch.setattr("offgridd.core.questions.QUESTIONS", others)
        seen.add(digest())
    assert len(seen) == 3
