"""Constraints on the real vocabulary: what can not be honoured is refused, what is honoured holds for any sampling."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
from support.rig import FILE_PATH

from offgridd.engine.grammar import GrammarError, Grammars, Matcher
from offgridd.engine.llama import Llama, Settings
from offgridd.engine.wire import Constraint


@pytest.fixture(scope="module")
def model() -> Llama:
    return Llama(str(FILE_PATH), Settings(256, 1))


@pytest.fixture(scope="module")
def grammars(model: Llama) -> Grammars:
    return Grammars(model.vocab.grammar_tokenizer(), model.vocab.size)


def nested(depth: int) -> dict[str, object]:
    return {"type": "object"} if not depth else {"type": "object", "properties": {"a": nested(depth - 1)}}


SCHEMAS: dict[str, object] = {
    "remote reference": {"$ref": "http://127.0.0.1:1/x.json"},
    "itself": {"$ref": "#"},
    "two that are each other": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "a text": "string",
    "a list": [],
    "nothing": None,
    "nothing allowed": False,
    "bad pattern": {"type": "string", "pattern": "foo**("},
    "200 deep": nested(200),
    "100,000 choices": {"enum": [str(i) for i in range(100_000)]},
    "not": {"not": {"type": "object"}},
    "unknown format": {"type": "string", "format": "frob"},
}
GRAMMARS = {
    "does not parse": "root ::= [",
    "no root": 'foo ::= "a"',
    "undefined rule": "root ::= bar",
    "nested repeats": 'root ::= (("a"{1000}){1000}){1000}',
    "100,000 parentheses": "root ::= " + "(" * 100_000 + '"a"' + ")" * 100_000,
    "a NUL": 'root ::= "a\x00"',
}
EXPRESSIONS = {"unclosed": "([", "look ahead": "(?=a)", "a bomb": "(a|a)*" * 2000}
BAD = [
    *((f"schema: {n}", Constraint("json_schema", json.dumps(s))) for n, s in SCHEMAS.items()),
    *((f"GBNF: {n}", Constraint("gbnf", g)) for n, g in GRAMMARS.items()),
    *((f"regex: {n}", Constraint("regex", r)) for n, r in EXPRESSIONS.items()),
]


@pytest.mark.parametrize("asked", [c for _, c in BAD], ids=[n for n, _ in BAD])
def test_what_can_not_be_honoured_is_refused_with_a_reason(asked: Constraint, grammars: Grammars) -> None:
    began = time.monotonic()
    with pytest.raises(GrammarError) as caught:
        grammars.compile(asked)
    assert str(caught.value).startswith("cannot ")
    assert len(str(caught.value)) < 400
    assert time.monotonic() - began < 2


def say(model: Llama, matcher: Matcher, seed: int, most: int = 400) -> tuple[str, bool]:
    """A random walk over what is allowed, and whether it came to an end."""
    rng, text = random.Random(seed), b""
    for _ in range(most):
        ids = np.flatnonzero(matcher.allowed())
        assert len(ids)
        token = int(rng.choice(ids))
        if model.vocab.is_end(token):
            return text.decode(), True
        matcher.take(token)
        text += model.vocab.piece(token)
        if matcher.done:
            return text.decode(), True
    return text.decode("utf-8", "ignore"), False


PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_chosen_matches_the_schema(seed: int, model: Llama, grammars: Grammars) -> None:
    text, ended = say(model, grammars.compile(Constraint("json_schema", json.dumps(PERSON))), seed)
    found = json.loads(text) if ended else {}
    if ended:
        assert found["name"] in ("Ada", "Bob")
        assert 0 <= found["age"] <= 9
        assert set(found) == {"name", "age"}
    assert text.lstrip().startswith("{")


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (Constraint("regex", "yes|no"), {"yes", "no"}),
        (Constraint("gbnf", 'root ::= "yes" | "no"'), {"yes", "no"}),
        (Constraint("lark", 'start: "yes" | "no"'), {"yes", "no"}),
    ],
)
def test_each_kind_allows_what_it_says(asked: Constraint, allowed: set[str], model: Llama, grammars: Grammars) -> None:
    said = {say(model, grammars.compile(asked), seed) for seed in range(12)}
    assert {text for text, _ in said} == allowed
    assert all(ended for _, ended in said)


def test_a_compiled_grammar_is_begun_anew_each_time(model: Llama, grammars: Grammars) -> None:
    asked = Constraint("regex", "abc")
    first, second = grammars.compile(asked), grammars.compile(asked)
    assert say(model, first, 1) == ("abc", True)
    assert say(model, second, 2) == ("abc", True)


def test_what_a_schema_says_of_itself_does_not_loosen_it(grammars: Grammars) -> None:
    schema = {"x-guidance": {"lenient": True}, "type": "string", "format": "frob"}
    with pytest.raises(GrammarError):
        grammars.compile(Constraint("json_schema", json.dumps(schema)))


def test_a_token_that_is_not_allowed_is_an_error_and_no_end(grammars: Grammars, model: Llama) -> None:
    matcher = grammars.compile(Constraint("regex", "abc"))
    with pytest.raises(GrammarError):
        matcher.take(model.vocab.tokenize("zzz")[0])
