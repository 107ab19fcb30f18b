"""Saved states taken apart and joined by token, on those of the real model."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from support.rig import FILE_PATH

from offgridd.engine.llama import Llama, Settings
from offgridd.engine.llama.layout import LayoutError, join, understood
from offgridd.engine.port import Memory, Part
from offgridd.engine.prefix import Piece

COUNT = 40  # tokens of the state
SHORT = 5  # of the one that is spoiled
CELLS = 16  # bytes before the first cell
CUTS = st.lists(st.integers(1, COUNT - 1), max_size=6, unique=True).map(sorted)


@pytest.fixture(scope="module")
def model() -> Llama:
    """Slot 0 holds `COUNT` tokens."""
    made = Llama(str(FILE_PATH), Settings(512, 1, parallel=3))
    assert made.memory is Memory.APART
    made.decode([Part(0, 0, [100 + i * 37 for i in range(COUNT)], False)])
    return made


@pytest.fixture(scope="module")
def whole(model: Llama) -> bytes:
    """As the library wrote it."""
    return bytes(model._state(0))


@pytest.fixture(scope="module")
def short(whole: bytes) -> bytes:
    return join([(whole, 0, SHORT)])


def spans(cuts: list[int]) -> list[tuple[int, int]]:
    return list(zip([0, *cuts], [*cuts, COUNT], strict=True))


@given(cuts=CUTS, again=CUTS)
@settings(max_examples=60, deadline=None)
def test_what_is_cut_into_parts_and_joined_is_the_whole_byte_for_byte(
    model: Llama, whole: bytes, cuts: list[int], again: list[int]
) -> None:
    assert understood(whole)
    parts = [(model.save(0, start, stop), start, stop) for start, stop in spans(cuts)]
    assert join(parts) == whole
    assert all(join([part]) == part[0] for part in parts), "a part is a state itself"
    overlapping = [(whole if i % 2 else model.save(0, 0, stop), a, stop) for i, (a, stop) in enumerate(spans(again))]
    assert join(overlapping) == whole


@given(cuts=CUTS, slot=st.integers(1, 2))
@settings(max_examples=10, deadline=None)
def test_restored_into_another_slot_the_next_logits_are_bit_for_bit_the_same(
    model: Llama, cuts: list[int], slot: int
) -> None:
    model.restore(slot, [Piece(model.save(0, a, b), a, b) for a, b in spans(cuts)])
    rows = []
    for place in (0, slot):
        model.decode([Part(place, COUNT, [777], True)])
        rows.append(model.logits(0).tobytes())
        model.cut(place, COUNT)
    assert rows[0] == rows[1]
    data = CELLS + 12 * COUNT
    assert model.save(slot, 0, COUNT)[data:] == model.save(0, 0, COUNT)[data:], "all but the sequence's number"
    model.cut(slot, 0)


@pytest.mark.parametrize("span", [(-1, 3), (0, COUNT + 1), (COUNT, COUNT + 1), (500, 600)])
def test_positions_that_a_state_does_not_have_are_refused(whole: bytes, span: tuple[int, int]) -> None:
    with pytest.raises(LayoutError):
        join([(whole, *span)])


def test_a_part_has_no_positions_but_its_own(model: Llama) -> None:
    part = model.save(0, 10, 20)
    for start, stop in ((9, 20), (10, 21), (0, 5)):
        with pytest.raises(LayoutError):
            join([(part, start, stop)])


def put(state: bytes, at: int, form: str, value: int) -> bytes:
    raw = struct.pack(form, value)
    return state[:at] + raw + state[at + len(raw) :]


AFTER = CELLS + SHORT * 12  # of the cells: whether values are transposed, layers, the first block's type and row


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: b"",
        lambda s: s[:11],
        lambda s: s[:-1],
        lambda s: s[: len(s) // 2],
        lambda s: s + b"\0",
        lambda s: s + s,
        lambda s: put(s, 8, "<I", 0),
        lambda s: put(s, 8, "<I", 2**32 - 1),
        lambda s: put(s, 12, "<I", 0),
        lambda s: put(s, 12, "<I", SHORT - 1),
        lambda s: put(s, 12, "<I", SHORT + 1),
        lambda s: put(s, 12, "<I", 2**32 - 1),
        lambda s: put(s, CELLS, "<i", 1),
        lambda s: put(s, CELLS + 4, "<I", 2),
        lambda s: put(s, AFTER, "<I", 1),
        lambda s: put(s, AFTER + 12, "<Q", 0),
        lambda s: put(s, AFTER + 12, "<Q", 2**64 - 1),
        lambda s: bytes(len(s)),
        lambda s: b"\xff" * len(s),
        lambda s: random.Random(7).randbytes(len(s)),
    ],
)  # fmt: skip
def test_other_bytes_are_not_understood(short: bytes, spoil: Callable[[bytes], bytes]) -> None:
    assert understood(short)
    assert not understood(spoil(short))


def spoiled(state: bytes, heads: list[int], rng: random.Random) -> bytes:
    """Bytes of its structure changed, or a piece of it lost, doubled or moved."""
    made = bytearray(state)
    for _ in range(rng.randint(1, 3)):
        at, size = rng.choice(heads) + rng.randrange(12), rng.randint(1, 40)
        match rng.randrange(5):
            case 0:
                made[min(at, len(made) - 1)] = rng.randrange(256)
            case 1:
                made[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2, 2**31, 2**32 - 1]))
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[at : at + size]
            case _:
                del made[rng.randrange(1, len(made)) :]
    return bytes(made)


def test_spoiled_bytes_are_a_no_or_a_layout_error_and_never_another(short: bytes) -> None:
    rng, row = random.Random(7), struct.unpack_from("<Q", short, AFTER + 12)[0]
    heads = [0, 4, 12, *range(CELLS, AFTER, 12), AFTER, AFTER + 8, AFTER + 20 + SHORT * row]
    answers = set()
    for _ in range(300):
        state = spoiled(short, heads, rng)
        answers.add(understood(state))
        try:
            join([(state, 0, 2), (state, 2, SHORT)])
        except (LayoutError, struct.error):
            pass
    assert False in answers


@given(st.binary(max_size=200))
def test_nonsense_is_never_understood(state: bytes) -> None:
    assert not understood(state)


def test_a_state_of_no_streams_is_not_understood(short: bytes) -> None:
    row = struct.unpack_from("<Q", short, AFTER + 12)[0]
    one = put(short[: AFTER + 20 + SHORT * row], 8, "<I", 0)  # one block alone
    cell = put(put(one, 12, "<I", 4)[: CELLS + 48] + one[AFTER : AFTER + 8], CELLS, "<i", 0)
    assert not understood(cell + struct.pack("<iQ", 1, 17) + bytes(64))


def test_a_state_whose_cells_lie_in_another_order_is_taken_apart_by_position() -> None:
    """One buffer for all: cells that others left in the middle are used again."""
    model = Llama(str(FILE_PATH), Settings(512, 1, parallel=3, cells=512))
    prompt = [3 + i * 7 for i in range(120)]
    model.decode([Part(0, 0, [9] * 40, False), Part(1, 0, prompt[:30], False), Part(2, 0, [8] * 40, False)])
    model.cut(0, 0)
    model.decode([Part(1, 30, prompt[30:], True)])
    state = model.save(1, 0, 120)
    model.cut(1, 0)
    model.cut(2, 0)
    for cut in (1, 45, 119):
        model.restore(0, [Piece(state, 0, cut)])
        model.decode([Part(0, cut, prompt[cut:], True)])
        found = model.logits(0).copy()
        model.cut(0, 0)
        model.decode([Part(1, 0, prompt[:cut], False)])
        model.decode([Part(1, cut, prompt[cut:], True)])
        assert np.abs(found - model.logits(0)).max() <= 1.5
        model.cut(1, 0)
