"""Estimates of memory: what they must do whatever the header says, and known models to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridd.core.desired import LoadSpec, MemorySpec, Placement
from offgridd.core.fit import Limits, declared, estimate, fits, limits
from offgridd.core.observed import ModelHeader
from offgridd.core.shape import Matrix, Shape

MIB = 1 << 20
LLAMA_8B = ModelHeader(
    "llama", "", 15, 131072, 32, 4096, 32, 128256, 291, 4_912_898_304, True,
    Shape({"attention.head_count": 32, "attention.head_count_kv": 8, "feed_forward_length": 14336}, merges=280147),
)  # fmt: skip
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
ARCHITECTURES = ("llama", "gemma2", "phi3", "deepseek2", "mamba", "lfm2", "jamba", "never-heard-of")
number = st.integers(0, (1 << 31) - 1)
small = st.integers(0, 300)
keys = st.sampled_from(
    ["attention.head_count", "attention.head_count_kv", "feed_forward_length", "attention.key_length",
     "attention.value_length", "attention.key_length_mla", "attention.key_length_swa", "attention.sliding_window",
     "shortconv.l_cache", "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "expert_used_count"]
)  # fmt: skip
shapes = st.builds(
    Shape,
    st.dictionaries(keys, number | st.lists(number, max_size=40).map(tuple)),
    st.lists(keys, max_size=2).map(tuple),
    small,
    st.dictionaries(st.integers(0, 45), st.builds(Matrix, small, small)),
    st.booleans(),
)
headers = st.builds(
    ModelHeader, st.sampled_from(ARCHITECTURES), st.just(""), st.none(), number, small, small, small, number, small,
    number, st.booleans(), shapes,
)  # fmt: skip
placements = st.builds(
    Placement, st.sampled_from((None, *CACHE_TYPES)), st.sampled_from((None, *CACHE_TYPES)), st.booleans(),
    st.none() | st.integers(0, 99), mmap=st.booleans(),
)  # fmt: skip
loads = st.builds(
    LoadSpec, st.none() | st.integers(1, 1 << 20), st.integers(1, 255), st.none() | st.integers(1, 1 << 22),
    deterministic=st.booleans(), placement=placements,
)  # fmt: skip
features = st.frozensets(st.sampled_from(["avx2", "avx512f", "i8mm", "asimddp", "sse2"]))


@given(headers, loads, features, number)
def test_an_estimate_of_any_header_is_sane(
    header: ModelHeader, load: LoadSpec, cpu: frozenset[str], cache: int
) -> None:
    found = estimate(header, load, cpu, cache)
    if header.architecture == "never-heard-of":
        assert found is None
    if found is None:
        assert fits(found, load, Limits(1 << 60)) == "unknown"
        return
    parts = (found.weights, found.repacked, found.kv, found.compute, found.base, found.moving, found.spilled)
    assert all(type(part) is int and part >= 0 for part in parts)
    assert found.own <= found.total
    assert fits(found, load, Limits(found.charge)) == "yes"
    assert fits(found, replace(load, placement=Placement()), Limits(found.charge - 1)) == "no"


@given(headers, loads, features)
def test_more_context_and_more_requests_never_take_less(
    header: ModelHeader, load: LoadSpec, cpu: frozenset[str]
) -> None:
    load = replace(load, context=load.context or 1000, kv_cells=None)
    assert load.context is not None
    found = estimate(header, load, cpu)
    for more in (replace(load, context=load.context + 300), replace(load, parallel=load.parallel + 1)):
        larger = estimate(header, more, cpu)
        assert (larger is None) == (found is None)
        assert larger is None or found is None or (larger.kv >= found.kv and larger.charge >= found.charge)


def test_keys_and_values_of_a_known_model() -> None:
    """Llama 3.1 8B: 32 layers, 8 heads of 128, so 128 KiB a token."""
    found = estimate(LLAMA_8B, LoadSpec(context=8192, parallel=1), cache=0)
    assert found is not None
    assert found.kv == 1024 * MIB
    quarter = estimate(LLAMA_8B, LoadSpec(8192, 1, placement=Placement("q8_0", "q4_0")), cache=0)
    assert quarter is not None
    assert quarter.kv == 512 * MIB * 34 // 64 + 512 * MIB * 18 // 64


def test_a_context_is_rounded_up_for_each_sequence() -> None:
    found = estimate(LLAMA_8B, LoadSpec(context=1000, parallel=3), cache=0)
    assert found is not None
    assert found.kv == 3 * 1024 * 128 * 1024
    turns = estimate(LLAMA_8B, LoadSpec(context=1000, parallel=3, kv_cells=1500), cache=0)
    assert turns is not None
    assert turns.kv == 1536 * 128 * 1024
    assert turns.spilled == 1500 * 128 * 1024


def test_deterministic_has_values_as_q8_0() -> None:
    found = estimate(LLAMA_8B, LoadSpec(8192, 1, deterministic=True), cache=0)
    assert found is not None
    assert found.kv == 512 * MIB + 512 * MIB * 34 // 64


def test_one_latent_vector_a_token_where_the_header_says_so() -> None:
    """DeepSeek V2 Lite as it is converted now: one head of 576, and no values."""
    shape = {"attention.head_count": 16, "attention.head_count_kv": 1, "attention.key_length": 576,
             "attention.value_length": 512, "attention.key_length_mla": 192, "attention.value_length_mla": 128,
             "feed_forward_length": 10944}  # fmt: skip
    header = ModelHeader("deepseek2", "", 15, 163840, 27, 2048, 16, 102400, 377, 1 << 30, True, Shape(shape))
    found = estimate(header, LoadSpec(4096, 1), cache=0)
    assert found is not None
    assert found.kv == 27 * 4096 * 576 * 2


def test_states_of_recurrent_layers_do_not_grow_with_the_context() -> None:
    """Mamba 130M: 24 layers, f32; one state more than there are requests, which moves prefixes."""
    shape = Shape({"ssm.conv_kernel": 4, "ssm.inner_size": 1536, "ssm.state_size": 16})
    header = ModelHeader("mamba", "", 1, 1 << 20, 24, 768, 0, 50280, 242, 1 << 28, False, shape)
    for context in (2048, 32768):
        found = estimate(header, LoadSpec(context, 1), cache=0)
        assert found is not None
        assert found.kv == 2 * 24 * (3 * 1536 + 16 * 1536) * 4


def test_a_hybrid_has_both() -> None:
    """LFM2: a layer without heads keeps two columns of its convolution."""
    shape = Shape({"attention.head_count": 16, "attention.head_count_kv": (0, 8, 0), "shortconv.l_cache": 3})
    header = ModelHeader("lfm2", "", 1, 32768, 3, 1024, 16, 65536, 40, 1 << 28, True, shape)
    found = estimate(header, LoadSpec(1024, 1), cache=0)
    assert found is not None
    assert found.kv == 1024 * 8 * 64 * 2 * 2 + 2 * 2 * (2 * 1024 * 4)


@pytest.mark.parametrize("key", ["attention.shared_kv_layers", "attention.key_length_swa", "attention.key_length_mla"])
def test_keys_of_another_kind_of_memory_make_it_unknown(key: str) -> None:
    shape = Shape({**LLAMA_8B.shape.numbers, key: 64})
    assert estimate(replace(LLAMA_8B, shape=shape), LoadSpec()) is None


def test_heads_that_are_not_told_for_each_layer_make_it_unknown() -> None:
    short = Shape({**LLAMA_8B.shape.numbers, "attention.head_count_kv": (8,) * 31})
    assert estimate(replace(LLAMA_8B, shape=short), LoadSpec()) is None
    odd = Shape({"attention.head_count": 32, "feed_forward_length": 14336}, odd=("attention.head_count_kv",))
    assert estimate(replace(LLAMA_8B, shape=odd), LoadSpec()) is None


def test_what_is_laid_out_anew_is_there_twice() -> None:
    shape = replace(LLAMA_8B.shape, matrices={12: Matrix(1000, 50), 14: Matrix(200, 7)}, own_output=False)
    header = replace(LLAMA_8B, shape=shape)
    plain = estimate(header, LoadSpec())
    assert plain is not None
    for cpu, unread, tied in ((frozenset[str](), 0, 0), ({"avx2"}, 1000, 50), ({"i8mm"}, 1200, 57)):
        found = estimate(header, LoadSpec(), cpu)
        assert found is not None
        assert found.total == plain.total + unread + tied
        assert found.charge == plain.charge + tied
    copied = estimate(header, LoadSpec(placement=Placement(mmap=False)), {"avx2"})
    assert copied is not None
    assert (copied.repacked, copied.own) == (0, copied.total)


def test_limits_are_of_what_there_is() -> None:
    gpu = ((0, 5),)
    assert declared(MemorySpec(), 1000) is None
    assert limits(MemorySpec(gpu=gpu), 1000) == Limits(1000, gpu)
    assert declared(MemorySpec(share=80, gpu=gpu), 1000) == Limits(800, gpu)
    assert declared(MemorySpec(share=80), None) == Limits(None)
    assert declared(MemorySpec(ram=300), 1000) == Limits(300)
    assert declared(MemorySpec(ram=3000), 1000) == Limits(1000)
    assert declared(MemorySpec(ram=3000), None) == Limits(3000)
    assert (Limits(7, gpu).all, Limits(None, gpu).all) == (12, None)


def test_where_a_gpu_takes_a_part_only_the_sum_is_judged() -> None:
    load = LoadSpec(8192, 1, placement=Placement(gpu_layers=20))
    found = estimate(LLAMA_8B, load)
    assert found is not None
    assert fits(found, load, Limits(1 << 30)) == "unknown"
    assert fits(found, load, Limits(1 << 30, ((0, 1 << 30),))) == "no"
    assert fits(found, load, Limits(1 << 30, ((0, found.charge),))) == "unknown"
    on_cpu = replace(load, placement=Placement(gpu_layers=0))
    assert fits(found, on_cpu, Limits(1 << 30, ((0, found.charge),))) == "no"
