"""Questions that every model is asked, always the same ones, and whether an answer is right. Pure.

An answer counts where it is one of those named, but for case, quotes, the full stop, and spaces around; a sentence
around it does not, since the question asks for less. JSON counts where the whole answer is one object with the keys
that were asked for, or is one fenced block of it: so clients take it, too. With tools it counts where it is the one
call that was to be made, arguments included, or makes none where none fits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
_AROUND: Final = " \t\r\n.!\"'`*"
SHORT, LONG = 24, 96  # most tokens of an answer


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. `parameters`: the JSON schema of each by its name; all of them are needed."""

    name: str
    description: str
    parameters: Mapping[str, Mapping[str, Any]]

    @property
    def function(self) -> dict[str, Any]:
        """As a request has it."""
        schema = {"type": "object", "properties": self.parameters, "required": list(self.parameters)}
        return {"name": self.name, "description": self.description, "parameters": schema}


@dataclass(frozen=True, slots=True)
class Call:
    """Of the tool with this name. `arguments`: all of them, and what each may be."""

    name: str
    arguments: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`calls`: of each the name, and the arguments as they were written."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """`right`: what may be answered, in small letters. Or `keys`: of the JSON object that is asked for. Or a `call`."""

    name: str
    text: str
    right: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    call: Call | None = None

    @property
    def turns(self) -> tuple[str, ...]:
        """What user and model say in turn, the question last: small models need to see what is asked of them.

        What a call looks like is for the template to say, or for our words where it does not: it is not shown.
        """
        return (*next((turns for words, turns in _EXAMPLES if self.text.startswith(words)), ()), self.text)

    @property
    def most(self) -> int:
        """Tokens that an answer may have."""
        return LONG if self.keys or self.tools else SHORT


_WORD: Final = "Answer with one word and nothing else. "
_NUMBER: Final = "Answer with one number in digits and nothing else. "
_JSON: Final = "Answer with one JSON object and nothing else, no text before or behind it. "
_EXAMPLES: Final = (
    (_WORD, (_WORD + "What is the opposite of up?", "down", _WORD + "Which animal barks?", "dog")),
    (_NUMBER, (_NUMBER + "What is 2 + 3?", "5", _NUMBER + "How many legs does a spider have?", "8")),
    (_JSON, (_JSON + 'The only key is "fruit"; its value is the name of one.', '{"fruit": "apple"}')),
)
_TEXT: Final = {"type": "string"}
_WEATHER: Final = Tool(
    "get_weather",
    "Tells the weather in a city as it is now.",
    {"city": _TEXT, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
)
_TIMER: Final = Tool("set_timer", "Sets a timer that rings after some minutes.", {"minutes": {"type": "integer"}})
_LIGHT: Final = Tool(
    "set_light",
    "Turns the light in a room on or off.",
    {"room": {"type": "string", "enum": ["kitchen", "bedroom"]}, "on": {"type": "boolean"}},
)
_CODE: Final = {"type": "string", "enum": ["EUR", "GBP", "USD"]}
_MONEY: Final = Tool(
    "convert_money",
    "Converts an amount of money from one currency to another.",
    {"amount": {"type": "number"}, "source": _CODE, "target": _CODE},
)
# Those with tools stand last: where they are refused the others were asked.
QUESTIONS: Final = (
    Question("capital", _WORD + "What is the capital of France?", ("paris",)),
    Question("opposite", _WORD + "What is the opposite of hot?", ("cold",)),
    Question("colour", _WORD + "Which colour do blue and yellow paint make when they are mixed?", ("green",)),
    Question("plural", _WORD + "What is the plural of the word mouse, the animal?", ("mice",)),
    Question("planet", _WORD + "Which planet is nearest to the sun?", ("mercury",)),
    Question("next", _WORD + "Which day of the week comes after Friday?", ("saturday",)),
    Question("odd", _WORD + "Which of these is not an animal: dog, table, horse, cat?", ("table",)),
    Question("spanish", _WORD + "Which English word does the Spanish word agua mean?", ("water",)),
    Question("sum", _NUMBER + "What is 17 + 25?", ("42",)),
    Question("product", _NUMBER + "What is 6 times 7?", ("42",)),
    Question("days", _NUMBER + "How many days does a leap year have?", ("366",)),
    Question("bought", _NUMBER + "Ann has 3 bags with 4 apples each and eats 2 apples. How many are left?", ("10",)),
    Question("reversed", _WORD + "Write the word stop backwards.", ("pots",)),
    Question(
        "person",
        _JSON + 'Describe a person: the keys are "name", a text, and "age", a number.',
        keys=("name", "age"),
    ),
    Question(
        "list",
        _JSON + 'The only key is "colours"; its value is a list of three names of colours.',
        keys=("colours",),
    ),
    Question(
        "extract",
        _JSON + 'The keys are "city" and "date". Take them from this sentence: We met in Oslo on 3 May 2021.',
        keys=("city", "date"),
    ),
    Question(
        "nested",
        _JSON + 'The key "book" holds an object with the keys "title" and "pages". Choose any book.',
        keys=("book",),
    ),
    Question(
        "weather",
        "What is the weather in Oslo, in degrees Celsius?",
        tools=(_WEATHER,),
        call=Call("get_weather", {"city": ("Oslo", "oslo", "Oslo, Norway"), "unit": ("celsius",)}),
    ),
    Question("timer", "Set a timer for 20 minutes.", tools=(_TIMER,), call=Call("set_timer", {"minutes": (20,)})),
    Question(
        "light",
        "Turn the light in the kitchen off.",
        tools=(_LIGHT,),
        call=Call("set_light", {"room": ("kitchen",), "on": (False,)}),
    ),
    Question(
        "which",
        "How much are 250 euros in US dollars?",
        tools=(_WEATHER, _MONEY),
        call=Call("convert_money", {"amount": (250,), "source": ("EUR",), "target": ("USD",)}),
    ),
    Question("neither", _WORD + "What is the capital of Italy?", ("rome",), tools=(_WEATHER, _TIMER)),
)  # fmt: skip


def is_right(question: Question, answer: Answer) -> bool:
    if question.call is not None:
        return len(answer.calls) == 1 and _is_call(question.call, *answer.calls[0])
    if question.keys:
        fenced = _FENCED.fullmatch(text := answer.text.strip())
        found = _object(fenced[1] if fenced else text)
        return found is not None and set(question.keys) <= set(found)
    return not answer.calls and answer.text.strip(_AROUND).lower() in question.right


def _is_call(wanted: Call, name: str, arguments: str) -> bool:
    found = _object(arguments)
    if name != wanted.name or found is None or set(found) != set(wanted.arguments):
        return False
    return all(any(_same(found[key], one) for one in may) for key, may in wanted.arguments.items())


def _same(value: object, other: object) -> bool:
    """As JSON has them: to Python 1 is true."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def digest() -> str:
    """Changes with the questions: results of others can not be compared."""
    return hashlib.sha256(repr([(astuple(one), one.turns) for one in QUESTIONS]).encode()).hexdigest()
