"""What workers are charged with: nothing is counted twice, nothing gets lost, and GPUs are counted apart."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from offgridd.core.desired import FileSource, LoadSpec, ModelSpec, Placement
from offgridd.core.fit import Limits, estimate
from offgridd.core.memory import Host, Ledger, charge, raised
from offgridd.core.observed import Charge, Identity, ModelHeader, VerifiedFile
from offgridd.core.shape import Shape
from offgridd.core.sizes import RESERVE

SHAPE = Shape({"attention.head_count": 4, "attention.head_count_kv": 4, "feed_forward_length": 512})
HEADER = ModelHeader("llama", "m", 0, 4096, 10, 256, 4, 1000, 50, 10**9, True, SHAPE)
FILE = VerifiedFile("/f", Identity(1, 1, 1, 1), "0" * 64, HEADER, "k")
CPU = Host(frozenset(), Limits(None))
CHARGES = st.builds(
    lambda own, shared, file, gpu: Charge(own, shared, file if shared else "", ((0, gpu),) if gpu else ()),
    st.integers(0, 9), st.integers(0, 9), st.sampled_from("xyz"), st.integers(0, 3),
)  # fmt: skip


def spec(placement: Placement, cache: int = 0) -> ModelSpec:
    return ModelSpec("m", FileSource("/f"), load=LoadSpec(context=512, placement=placement), cache_ram=cache)


def cost(placement: Placement, host: Host = CPU, cache: int = 0) -> Charge:
    return charge(f"{placement} {host} {cache}", spec(placement, cache), FILE, host)


@given(st.lists(CHARGES), st.randoms())
def test_what_is_added_and_removed_again_leaves_nothing(charges: list[Charge], dice: object) -> None:
    ledger = Ledger(Limits(100))
    for one in charges:
        before = ledger.ram
        needed = ledger.needs(one)
        ledger.add(one)
        assert ledger.ram == before + needed
    assert ledger.ram == sum(c.own for c in charges) + sum(
        max((c.shared for c in charges if c.file == file), default=0) for file in "xyz"
    )
    shuffled = list(charges)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    for one in shuffled:
        ledger.remove(one)
    assert (ledger.own, ledger.mapped, ledger.files, sum(ledger.gpu.values())) == (0, 0, {}, 0)


def test_on_the_cpu_all_of_the_estimate_is_charged_and_the_file_once() -> None:
    found, known = cost(Placement(), cache=5), estimate(HEADER, spec(Placement()).load, frozenset(), 5)
    assert known is not None
    assert found.own + found.shared == known.charge
    assert found.shared == 10**9
    assert cost(Placement(mlock=True)).shared == 0, "locked pages are charged to each worker"
    assert cost(Placement(mmap=False)).shared == 0


def test_layers_on_gpus_are_charged_there_and_not_here() -> None:
    whole = cost(Placement(gpu_layers=0))
    half = cost(Placement(gpu_layers=5))
    ((number, there),) = half.gpu
    assert number == 0
    assert abs(whole.own + whole.shared - half.own - half.shared - there) <= 2
    assert abs(half.shared - whole.shared / 2) <= 1
    split = cost(Placement(gpu_layers=10, tensor_split=(3.0, 1.0)))
    assert [n for n, _ in split.gpu] == [0, 1]
    assert abs(split.gpu[0][1] - 3 * split.gpu[1][1]) <= 4
    assert split.shared == 0


def test_where_nothing_is_said_a_gpu_that_is_there_takes_all_of_it() -> None:
    assert cost(Placement(), Host(frozenset(), Limits(None), gpu=True)).shared == 0
    sized = Host(frozenset(), Limits(None, ((0, 2 * 10**9), (1, 10**9))))
    assert [n for n, _ in cost(Placement(), sized).gpu] == [0, 1]
    tight = Ledger(Limits(None, ((0, 10**8),)))
    assert tight.lacks(cost(Placement(), Host(frozenset(), tight.limits))) == "gpu 0"


def test_what_is_not_understood_is_charged_by_its_tensors() -> None:
    strange = replace(FILE, header=replace(HEADER, architecture="unheard-of"))
    found = charge("strange", spec(Placement(), 7), strange, CPU)
    assert (found.own, found.shared) == (7 + RESERVE, 10**9)


@given(CHARGES, st.integers(0, 20))
def test_what_was_measured_only_raises(found: Charge, peak: int) -> None:
    assert raised(found, peak).own == max(found.own, peak)
