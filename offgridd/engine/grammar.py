"""Constrained output: from a schema, expression or grammar to the tokens that may come next. One door to llguidance.

What can not be honoured is an error before the answer begins, never an answer that is not constrained. The library's
own grammars are not used: an invalid one ends the process.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import llguidance
import numpy as np
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray

from offgridd.engine.wire import Constraint

KEPT = 64  # compiled grammars
# As json.dumps writes it: where any white space is allowed, small models write nothing else to the end of the context.
# What a schema says of itself in x-guidance does not loosen it: a keyword that is not understood is an error.
_JSON: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ",
              "lenient": False, "coerce_one_of": False}  # fmt: skip
_ANY_OBJECT = '{"type": "object"}'


class GrammarError(Exception):
    """The constraint can not be honoured; the text says why."""


class Grammars:
    """Compiles for one vocabulary. `tokenizer` is llguidance's, `size` the number of tokens."""

    def __init__(self, tokenizer: Any, size: int) -> None:
        self._tokenizer, self._size = tokenizer, size
        # Below the library's defaults: all requests of a step wait for each mask.
        self._limits = llguidance.LLParserLimits(step_max_items=20_000, max_lexer_states=50_000)
        self._kept: OrderedDict[Constraint, llguidance.LLMatcher] = OrderedDict()

    def compile(self, asked: Constraint) -> Matcher:
        """A matcher at its beginning. Raises GrammarError. Takes milliseconds, at worst a second: not on a hot path."""
        matcher = self._kept.pop(asked, None)
        if matcher is None:
            matcher = llguidance.LLMatcher(self._tokenizer, _source(asked), log_level=0, limits=self._limits)
            Matcher(matcher.deep_copy(), self._size).allowed()  # many errors show at the first step only
        self._kept[asked] = matcher
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return Matcher(matcher.deep_copy(), self._size)


class Matcher:
    """One answer on its way through a grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, size: int) -> None:
        self._matcher, self._size = matcher, size
        self._mask = np.zeros((size + 31) // 32, np.uint32)

    @property
    def done(self) -> bool:
        """Nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """For each token whether it may come next. Raises GrammarError."""
        self._check()
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        return np.unpackbits(self._mask.view(np.uint8), count=self._size, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """It was chosen. Raises GrammarError."""
        if not self._matcher.consume_token(token):
            self._check()
            raise GrammarError("cannot follow the grammar: it does not allow what was chosen")

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError(f"cannot follow the grammar: {self._matcher.get_error().splitlines()[0][:300]}")


def _source(asked: Constraint) -> str:
    """llguidance's own form. Raises GrammarError."""
    try:
        match asked.kind:
            case "json_object":
                return str(llguidance.LLMatcher.grammar_from_json_schema(_ANY_OBJECT, overrides=_JSON))
            case "json_schema":
                return str(llguidance.LLMatcher.grammar_from_json_schema(asked.text, overrides=_JSON))
            case "regex":
                return str(llguidance.LLMatcher.grammar_from_regex(asked.text))
            case "lark":
                return str(llguidance.LLMatcher.grammar_from_lark(asked.text))
            case _:
                return str(llguidance.LLMatcher.grammar_from_lark(gbnf_to_lark(asked.text)))
    except RecursionError:
        raise GrammarError("cannot read the grammar: it is nested too deeply") from None
    except Exception as error:  # gbnf_to_lark raises bare Exceptions
        raise GrammarError(f"cannot read the grammar: {str(error).splitlines()[0][:300]}") from None
