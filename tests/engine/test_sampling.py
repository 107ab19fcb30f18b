"""Cut rows against whole ones: the same seed gives the same tokens, whatever the chain."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rig import FILE_PATH

from offgridd.engine.llama import Llama, NativeChain, Settings
from offgridd.engine.port import Part
from offgridd.engine.sampling import Sampler, candidates, draw, logprob_of, nucleus
from offgridd.engine.wire import SamplingParams

TEXT = "Once there was a lighthouse keeper who"


@pytest.fixture(scope="module")
def model() -> Llama:
    return Llama(str(FILE_PATH), Settings(1024, 1))


@pytest.fixture(scope="module")
def rows(model: Llama) -> list[np.ndarray]:
    """Logits of a real text, one row a token."""
    tokens, made = model.vocab.tokenize(TEXT), []
    model.decode([Part(0, 0, tokens, True)])
    for at in range(len(tokens), len(tokens) + 150):
        made.append(model.logits(0).copy())
        model.decode([Part(0, at, [int(made[-1].argmax())], True)])
    return made


CHAINS = [
    SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=7),
    SamplingParams(temperature=1.5, top_k=200, seed=8),
    SamplingParams(temperature=1.0, top_k=1, seed=9),
    SamplingParams(temperature=0.7, top_k=50, typical_p=0.9, top_p=0.9, seed=1),
    SamplingParams(temperature=0.9, top_k=20, repeat_penalty=1.3, frequency_penalty=0.5, presence_penalty=0.5, seed=2),
    SamplingParams(temperature=0.0, repeat_penalty=1.2),
    SamplingParams(temperature=1.2, min_p=0.02, seed=3),
    SamplingParams(temperature=1.0, repeat_penalty=0.9, top_k=10, seed=4),
    SamplingParams(temperature=0.8, dry_multiplier=0.8, top_k=40, seed=5),
]


@pytest.mark.parametrize("params", CHAINS, ids=str)
def test_a_cut_row_gives_the_tokens_of_the_whole_one(params: SamplingParams, model: Llama, rows: list) -> None:
    ours, whole = Sampler(params, model.chain), model.chain(params)
    every = np.arange(model.vocab.size)
    assert [ours.choose(row.copy()) for row in rows] == [whole.pick(every, row.copy()) for row in rows]
    ours.close()
    whole.close()


@pytest.mark.parametrize("params", CHAINS, ids=str)
def test_the_whole_row_gives_what_the_librarys_own_call_gives(params: SamplingParams, model: Llama, rows: list) -> None:
    """llama_sampler_sample reads the context's logits: ours are put there."""
    first, second = model.chain(params), model.chain(params)
    assert isinstance(second, NativeChain)
    model.cut(0, 1)
    model.decode([Part(0, 1, [5], True)])
    for row in rows[:40]:
        model.logits(0)[:] = row
        wanted = llama_cpp.llama_sampler_sample(second._chain, model._ctx, -1)
        assert first.pick(np.arange(model.vocab.size), row) == wanted
    first.close()
    second.close()


def test_greedy_is_the_likeliest(rows: list, model: Llama) -> None:
    sampler = Sampler(SamplingParams(temperature=0.0), model.chain)
    assert [sampler.choose(row.copy()) for row in rows] == [int(row.argmax()) for row in rows]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
def test_the_nucleus_is_the_librarys(top_p: float, rows: list, model: Llama) -> None:
    for row in rows[:50]:
        ours = nucleus(row, top_p)
        data = np.empty(len(row), np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        data["id"], data["logit"] = np.arange(len(row)), row
        array = llama_cpp.llama_token_data_array(
            data.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)), len(row), -1, False
        )
        sampler = llama_cpp.llama_sampler_init_top_p(top_p, 1)
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        wanted = [array.data[i].id for i in range(array.size)]
        llama_cpp.llama_sampler_free(sampler)
        p = np.exp(row.astype(np.float64) - row.max())
        p /= p.sum()
        assert p[ours].sum() >= top_p - 1e-6
        assert p[ours[:-1]].sum() < top_p
        assert p[wanted].sum() >= top_p - 1e-3, "the library sums in single precision"
        assert p[wanted[:-1]].sum() < top_p + 1e-3
        same = min(len(ours), len(wanted))
        assert sorted(row[ours[:same]]) == sorted(row[wanted[:same]])


def test_top_p_alone_draws_from_the_nucleus_and_a_seed_repeats(rows: list, model: Llama) -> None:
    params = SamplingParams(temperature=1.0, top_p=0.7, seed=11)
    made = []
    for _ in range(2):
        sampler = Sampler(params, model.chain)
        made.append([sampler.choose(row.copy()) for row in rows])
        sampler.close()
    assert made[0] == made[1]
    assert all(token in nucleus(row, 0.7) for token, row in zip(made[0], rows, strict=True))
    assert made[0] != [int(row.argmax()) for row in rows]


ROWS = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=700).map(lambda x: np.array(x, np.float32))


@given(ROWS, st.floats(0.1, 2), st.floats(0, 0.999999))
def test_a_draw_is_where_the_distribution_says(row: np.ndarray, temperature: float, uniform: float) -> None:
    p = np.exp((row.astype(np.float64) - row.max()) / temperature)
    ends = np.cumsum(p) / p.sum()
    token = draw(row, temperature, uniform)
    assert ends[token] >= uniform - 1e-5
    assert (ends[token - 1] if token else 0.0) <= uniform + 1e-5


@settings(deadline=None)
@given(ROWS, st.integers(1, 300), st.booleans())
def test_no_candidate_that_could_win_is_cut(row: np.ndarray, top_k: int, penalties: bool) -> None:
    ids = candidates(row, SamplingParams(top_k=top_k, repeat_penalty=1.1 if penalties else 1.0))
    assert sorted(ids) == list(ids)
    kept = np.sort(row[ids])[::-1]
    assert list(kept[:top_k]) == list(np.sort(row)[::-1][: min(top_k, len(kept))])
    assert len(ids) >= min(len(row), top_k + (64 if penalties else 0))


@given(ROWS, st.integers(0, 20))
def test_logprobs_are_those_of_the_whole_row(row: np.ndarray, top: int) -> None:
    exact = row.astype(np.float64) - row.max()
    exact -= np.log(np.exp(exact).sum())
    found = logprob_of(row, 1, top)
    assert found.logprob == pytest.approx(exact[1], abs=1e-4)
    assert [v for _, v in found.top] == pytest.approx(sorted(exact, reverse=True)[:top], abs=1e-4)


def test_a_bias_and_what_is_not_allowed(model: Llama, rows: list) -> None:
    row = rows[0].copy()
    best = int(row.argmax())
    assert (
        Sampler(SamplingParams(temperature=0.0, logit_bias=((best, -100.0),)), model.chain).choose(row.copy()) != best
    )
    allowed = np.zeros(model.vocab.size, bool)
    allowed[123] = True
    for params in (SamplingParams(temperature=0.0), SamplingParams(), CHAINS[0], SamplingParams(top_p=0.5)):
        assert Sampler(params, model.chain).choose(row.copy(), allowed) == 123


def likelier_again(model: Llama, params: SamplingParams) -> bool:
    """Whether the token that would go on a repetition is still chosen after the text that repeats."""
    chain, pattern = model.chain(params), [11, 12, 13, 14]
    every = np.arange(model.vocab.size)
    for token in [*pattern, *pattern, 11, 12]:
        row = np.full(model.vocab.size, -50, np.float32)
        row[token] = 50
        assert chain.pick(every, row) == token
    row = np.zeros(model.vocab.size, np.float32)
    row[13], row[500] = 3, 2
    found = chain.pick(every, row)
    chain.close()
    return found == 13


@pytest.mark.parametrize("window", [-1, 1024, 2**31 - 1])
def test_dry_looks_back_on_the_context_where_nothing_or_more_is_said(window: int, model: Llama) -> None:
    """With the largest window the library alone would take 17 GB."""
    params = SamplingParams(temperature=0.0, dry_multiplier=2.0, dry_allowed_length=1, dry_penalty_last_n=window)
    assert not likelier_again(model, params)
    assert likelier_again(model, SamplingParams(temperature=0.0))


def test_typical_sampling_is_the_same_where_all_else_is_forbidden(model: Llama, rows: list) -> None:
    """A row in which the others are -inf, against one that has only those that are allowed."""
    params = SamplingParams(temperature=1.0, typical_p=0.5, seed=3)
    few = np.sort(np.argsort(rows[0])[-40:])
    for row in rows[:30]:
        masked = np.full_like(row, -np.inf)
        masked[few] = row[few]
        ours, plain = Sampler(params, model.chain), model.chain(params)
        assert ours.choose(masked) == plain.pick(few, row[few])
        ours.close()
        plain.close()
