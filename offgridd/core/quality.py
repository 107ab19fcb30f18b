"""What a probe of a model's quality comes to, and whether two differ. Pure.

Perplexity is e to the mean of the negative logarithms of the tokens' probabilities; its standard error is that of the
mean, times the perplexity, as llama-perplexity reckons it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

N_CTX: Final = 512  # tokens of a chunk: llama-perplexity's default, without which figures can not be compared
# What must be alike for two perplexities to be comparable, and how it is called where it is not.
_ALIKE: Final = (("text_sha256", "another text"), ("n_ctx", "other chunks"), ("tokens_sha256", "another vocabulary"))


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some tokens the negative logarithms of their probabilities, and their squares."""

    tokens: int
    sum: float
    squares: float

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.tokens + other.tokens, self.sum + other.sum, self.squares + other.squares)


def perplexity(sums: Sums) -> tuple[float, float] | None:
    """It and its standard error; None where that is no number, as with a broken model."""
    mean = sums.sum / sums.tokens
    variance = sums.squares / sums.tokens - mean * mean
    if not (math.isfinite(variance) and mean < 500):
        return None
    found = math.exp(mean)
    return found, found * math.sqrt(max(0.0, variance) / (sums.tokens - 1))


def compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What two probes' perplexities say of each other, in a few words."""
    if one["perplexity"] is None or other["perplexity"] is None:
        return ""
    for name, text in _ALIKE:
        if one[name] != other[name]:
            return f"not comparable: {text}"
    error = math.hypot(one["error"], other["error"])
    return "within the error" if abs(one["perplexity"] - other["perplexity"]) <= error else "differ"


def compared_answers(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return "" if one["questions_sha256"] == other["questions_sha256"] else "not comparable: other questions"
