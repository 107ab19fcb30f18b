"""Perplexity from sums, and which two of them can be compared."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.quality import Sums, compared, perplexity

UNLIKELY = st.lists(st.floats(0, 20), min_size=2, max_size=300)


def sums(values: list[float]) -> Sums:
    return Sums(len(values), math.fsum(values), math.fsum(v * v for v in values))


@given(UNLIKELY, st.integers(1, 299))
def test_it_is_e_to_the_mean_with_the_error_of_the_mean(values: list[float], cut: int) -> None:
    found = perplexity(sums(values[:cut]) + sums(values[cut:]))
    assert found is not None
    mean, spread = float(np.mean(values)), float(np.std(values))
    assert found[0] == pytest.approx(math.exp(mean), rel=1e-9)
    assert found[1] == pytest.approx(
        math.exp(mean) * spread / math.sqrt(len(values) - 1), rel=1e-3, abs=math.exp(mean) * 1e-6
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e300])
def test_what_is_no_number_is_none(broken: float) -> None:
    assert perplexity(sums([1.0, broken])) is None


def probe(perplexity: float | None, error: float | None = 1.0, **more: Any) -> dict[str, Any]:
    return {"perplexity": perplexity, "error": error, "text_sha256": "t", "n_ctx": 512, "tokens_sha256": "v", **more}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (probe(20.0), probe(21.4), "within the error"),  # of both: 1.414
        (probe(20.0), probe(21.5), "differ"),
        (probe(20.0), probe(18.5), "differ"),
        (probe(20.0, tokens_sha256="w"), probe(20.0), "not comparable: another vocabulary"),
        (probe(20.0, text_sha256="u", tokens_sha256="w"), probe(20.0), "not comparable: another text"),
        (probe(20.0, n_ctx=256), probe(20.0), "not comparable: other chunks"),
        (probe(None, None), probe(20.0), ""),
    ],
)
def test_two_are_compared_where_they_can_be(one: dict[str, Any], other: dict[str, Any], said: str) -> None:
    assert compared(one, other) == compared(other, one) == said
