"""Questions that every model is asked, always the same ones, and whether an answer is right. Pure.

An answer counts where it is one of those named, but for case, quotes, the full stop, and spaces around; a sentence
around it does not, since the question asks for less. JSON counts where the whole answer is one object with the keys
that were asked for, or is one fenced block of it: so clients take it, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple, dataclass
from typing import Any, Final

_FENCED: Final = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
_AROUND: Final = " \t\r\n.!\"'`*"
SHORT, LONG = 24, 160  # most tokens of an answer


@dataclass(frozen=True, slots=True)
class Question:
    """`right`: what may be answered, in small letters. `keys`: of the JSON object that is asked for instead."""

    name: str
    text: str
    right: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Tokens that an answer may have."""
        return LONG if self.keys else SHORT


_WORD: Final = "Answer with one word and nothing else. "
_NUMBER: Final = "Answer with one number in digits and nothing else. "
_JSON: Final = "Answer with one JSON object and nothing else, no text before or behind it. "
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
)  # fmt: skip


def is_right(question: Question, answer: str) -> bool:
    if question.keys:
        found = _object(answer)
        return found is not None and set(question.keys) <= set(found)
    return answer.strip(_AROUND).lower() in question.right


def _object(answer: str) -> dict[str, Any] | None:
    text = answer.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def digest() -> str:
    """Changes with the questions: results of others can not be compared."""
    return hashlib.sha256(repr([astuple(one) for one in QUESTIONS]).encode()).hexdigest()
