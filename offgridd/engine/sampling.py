"""From a row of logits to the next token.

The library's samplers decide, but they are given as few candidates as can be: at 49,000 tokens the usual chain takes
200 us over a whole row and 40 us over those that can still win. Where a cut would not be exact, they get the whole row.
Two things are done here because the library needs a sorted row for them: top_p without top_k, and temperature alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from offgridd.engine.wire import SamplingParams

Row = NDArray[np.float32]
Table = NDArray[np.float32]  # a row of logits for each row of a decode
Ids = NDArray[np.intp]
PENALTY_WINDOW = 64  # tokens that the penalties look back on
_FIRST_CUT, _WIDER = 4.0, 3.0  # logits below the best one
_BLOCK = 256
_NOTHING = 80.0  # logits below the best one: no token so unlikely is ever drawn
COLDEST = 1e-4  # temperatures below it are greedy: dividing by them leaves the range of single precision


class Chain(Protocol):
    """The library's samplers for one request, in their order; they remember what was chosen."""

    def pick(self, ids: Ids, logits: Row) -> int:
        """One of the candidates, which are in the order that the samplers would see."""

    def close(self) -> None: ...


class Logprob(NamedTuple):
    """A token's log-probability and the likeliest tokens with theirs, of the row as the model gave it."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """One request's. `chain` makes the library's, with or without top_p."""

    def __init__(self, params: SamplingParams, chain: Callable[[SamplingParams], Chain]) -> None:
        if params.temperature < COLDEST:
            params = msgspec.structs.replace(params, temperature=0.0)
        self._params = params
        self._greedy, self._draws = is_greedy(params), is_temperature_alone(params)
        self._nucleus = params.top_p < 1 and cuts_alone(params)
        self._chain = (
            None if self._greedy or self._draws else chain(_without_top_p(params) if self._nucleus else params)
        )
        self._random = np.random.default_rng(params.seed)
        self._bias = _bias(params)

    def choose(self, row: Row, allowed: NDArray[np.bool_] | None = None) -> int:
        """The next token. `row` is changed: by the bias, and to -inf where a token is not `allowed`."""
        if self._bias is not None:
            row[self._bias[0]] += self._bias[1]
        if allowed is not None:
            np.copyto(row, -np.inf, where=~allowed)
        if self._greedy:
            return int(row.argmax())
        if self._draws:
            return draw(row, self._params.temperature, self._random.random())
        assert self._chain is not None
        ids = nucleus(row, self._params.top_p) if self._nucleus else candidates(row, self._params)
        if self._params.typical_p < 1:
            ids = _possible(ids, row)
        return self._chain.pick(ids, row[ids])

    def close(self) -> None:
        if self._chain is not None:
            self._chain.close()


def is_greedy(params: SamplingParams) -> bool:
    return params.temperature == 0 and not _penalises(params)


def is_temperature_alone(params: SamplingParams) -> bool:
    return params.temperature > 0 and params.top_p >= 1 and params.min_p == 0 and cuts_alone(params)


def cuts_alone(params: SamplingParams) -> bool:
    """Nothing comes before top_p in the chain."""
    return params.temperature > 0 and params.top_k == 0 and params.typical_p >= 1 and not _penalises(params)


def candidates(row: Row, params: SamplingParams) -> Ids:
    """Those that can still win, ascending: exactly, or all of them."""
    only_lowered = params.repeat_penalty >= 1 and params.frequency_penalty >= 0 and params.presence_penalty >= 0
    if params.dry_multiplier or not only_lowered:
        return np.arange(len(row))
    if params.top_k or params.temperature == 0:
        # Of the best k after the penalties none is below the best k + window before them.
        return _best(row, (params.top_k or 1) + (PENALTY_WINDOW if _penalises(params) else 0))
    if params.min_p > 0 and params.top_p >= 1 and params.typical_p >= 1 and not _penalises(params):
        return np.flatnonzero(row >= row.max() + math.log(params.min_p) - 1e-3)
    return np.arange(len(row))


def _possible(ids: Ids, row: Row) -> Ids:
    """Without those whose probability is 0 in single precision: of 0 x log 0 the library makes NaN, and sorts by it."""
    possible: Ids = ids[row[ids] > row.max() - _NOTHING]
    return possible


def _best(row: Row, count: int) -> Ids:
    """At least `count` of the best, ascending."""
    best, gap = row.max(), _FIRST_CUT
    while gap < 40:
        ids = np.flatnonzero(row > best - gap)
        if len(ids) >= count:
            return ids
        gap += _WIDER
    return np.arange(len(row))


def nucleus(row: Row, top_p: float) -> Ids:
    """The fewest likeliest tokens that have `top_p` of the probability together, the likeliest first."""
    best, gap = row.max(), _FIRST_CUT
    total = float(np.exp(row - best).sum(dtype=np.float64))
    while True:
        ids = np.flatnonzero(row > best - gap) if gap < 40 else np.arange(len(row))
        weights = np.exp((row[ids] - best).astype(np.float64))
        if weights.sum() >= top_p * total or gap >= 40:
            order = np.argsort(-weights, kind="stable")
            enough = int(np.searchsorted(np.cumsum(weights[order]), top_p * total)) + 1
            return ids[order[:enough]]
        gap += _WIDER


def draw(row: Row, temperature: float, uniform: float) -> int:
    """The token at `uniform` (0 to 1) of the distribution at this temperature."""
    weights = np.exp((row - row.max()) / np.float32(temperature))
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    sums = np.cumsum(blocks)
    left = uniform * sums[-1]
    block = min(int(np.searchsorted(sums, left, side="right")), len(blocks) - 1)
    start = block * _BLOCK
    within = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    at = int(np.searchsorted(within, left - (sums[block] - blocks[block]), side="right"))
    token = start + min(at, len(within) - 1)
    return token if weights[token] > 0 else int(row.argmax())  # at the very edge, where sums round


def logprob_of(row: Row, token: int, top: int) -> Logprob:
    """Of a row that nothing has changed yet."""
    best = row.max()
    lse = float(best) + math.log(float(np.exp(row - best).sum(dtype=np.float64)))
    ids = _best(row, top) if top else np.empty(0, np.intp)
    order = np.argsort(-row[ids], kind="stable")[:top]
    return Logprob(float(row[token]) - lse, tuple((int(i), float(row[i]) - lse) for i in ids[order]))


def _penalises(params: SamplingParams) -> bool:
    plain = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty) == (1.0, 0.0, 0.0)
    return not plain or params.dry_multiplier > 0


def _without_top_p(params: SamplingParams) -> SamplingParams:
    return msgspec.structs.replace(params, top_p=1.0)


def _bias(params: SamplingParams) -> tuple[Ids, Row] | None:
    if not params.logit_bias:
        return None
    ids, values = zip(*params.logit_bias, strict=True)
    return np.array(ids, np.intp), np.array(values, np.float32)
