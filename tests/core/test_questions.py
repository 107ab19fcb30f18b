"""Which answers are right."""

from __future__ import annotations

import json

import pytest

from offgridd.core.questions import QUESTIONS, digest, is_right

BY_NAME = {one.name: one for one in QUESTIONS}


def test_each_question_has_a_name_of_its_own_and_one_way_to_be_judged() -> None:
    assert len(BY_NAME) == len(QUESTIONS)
    assert all(bool(one.right) != bool(one.keys) for one in QUESTIONS)
    assert all(answer == answer.lower().strip(" .!\"'`*") for one in QUESTIONS for answer in one.right)
    assert len(digest()) == 64


@pytest.mark.parametrize("answer", ["Paris", " paris.\n", "**Paris**", '"Paris"', "PARIS!"])
def test_a_short_answer_counts_however_it_is_dressed(answer: str) -> None:
    assert is_right(BY_NAME["capital"], answer)


@pytest.mark.parametrize("answer", ["", "The capital of France is Paris.", "Paris, France", "London", "Pari s"])
def test_another_or_a_longer_one_does_not(answer: str) -> None:
    assert not is_right(BY_NAME["capital"], answer)


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Ann", "age": 3}', '\n {"age": 3, "name": "Ann", "more": null}\n',
     '```json\n{"name": "a", "age": 1}\n```',
     '```\n{\n "name": "a",\n "age": 1}\n```\n'],
)  # fmt: skip
def test_an_object_with_the_keys_counts(answer: str) -> None:
    assert is_right(BY_NAME["person"], answer)


@pytest.mark.parametrize(
    "answer",
    ["", "{}", "[]", "null", '{"name": "Ann"}', '{"name": "Ann", "age": 3', "{'name': 'Ann', 'age': 3}",
     'Here you are: {"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3} I hope it helps', '["name", "age"]',
     '```json\n{"name": "a", "age": 1}\n```\nDone.', "[" * 100_000],
)  # fmt: skip
def test_anything_else_does_not(answer: str) -> None:
    assert not is_right(BY_NAME["person"], answer)


@pytest.mark.parametrize("question", [one for one in QUESTIONS if one.keys], ids=lambda one: one.name)
def test_what_is_asked_for_can_be_answered(question: object) -> None:
    asked = BY_NAME[question.name]  # type: ignore[attr-defined]
    assert is_right(asked, json.dumps(dict.fromkeys(asked.keys, 1)))
