"""Sequences of different adapters side by side: what is shared, kept, parked and brought back is each one's own."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridd.engine.batch import Batch
from offgridd.engine.fake import Fake
from offgridd.engine.port import Memory, Part
from offgridd.engine.sequence import Sequence
from offgridd.engine.states import States

# Of each: where its prompt parts from the common one, how much longer it is, its adapters, where they begin (share of
# the prompt), and how many tokens it makes.
ASKED = st.lists(
    st.tuples(
        st.integers(0, 200), st.integers(1, 60), st.integers(0, 3), st.sampled_from([0.0, 0.3, 0.9]), st.integers(1, 40)
    ),
    min_size=1,
    max_size=10,
)


def checksums(tokens: list[int], adapters: int, switch: int) -> list[int]:
    """What a model that was asked nothing else would hold."""
    found, before = [], 0
    for at, token in enumerate(tokens):
        before = zlib.crc32(token.to_bytes(2, "little"), before ^ (adapters if at >= switch else 0))
        found.append(before)
    return found


@settings(max_examples=60, deadline=None)
@given(ASKED, st.sampled_from(list(Memory)), st.integers(1, 4), st.sampled_from([420, 4096]))
def test_each_holds_what_it_would_alone(
    asked: list[tuple[int, int, int, float, int]], memory: Memory, slots: int, cells: int
) -> None:
    cells = cells if memory is not Memory.APART else 512 * slots
    model = Fake(512, slots, cells, memory)
    batch = Batch(
        slots, 1 << 30 if memory is Memory.APART else cells, 64, follows=memory is not Memory.WHOLE,
        copies=memory is Memory.APART,
    )  # fmt: skip
    states, ended = States(model, batch, 20_000), 0
    for number, (at, more, adapters, share, limit) in enumerate(asked):
        tokens = [*([7] * at), *[number + 10] * more]
        switch = int(share * (len(tokens) - 1)) if adapters else 0
        made = Sequence(number, "a", tokens, len(tokens), limit, adapters=adapters, switch=switch)
        assert batch.waiting.put(made)
    for _ in range(20_000):
        states.fill()
        decodes = batch.next()
        if not decodes:
            break
        for decode in decodes:
            rows = decode.rows
            if model_is_full(model, states, sum(r.count for r in rows)):
                break
            model.wear(decode.adapters)
            model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in rows])
            batch.decoded(decode, 0.05)
            for s in [r.sequence for r in rows if r.sample]:
                held = [cell.checksum for cell in model._cache[s.slot]]
                assert held == checksums(s.tokens, s.adapters, s.switch)
                s.tokens.append(int(held[-1] % 250))
                if len(s.tokens) - s.prompt >= s.limit:
                    states.release(s)
                    ended += 1
    assert (ended, len(batch), batch.used) == (len(asked), 0, 0)


def model_is_full(model: Fake, states: States, rows: int) -> bool:
    """Then somebody has made room, and the step is planned anew."""
    if model.memory is Memory.APART:
        return False
    if len({id(cell) for cache in model._cache for cell in cache}) + rows <= model.cells:
        return False
    assert states.make_room()
    return True


@pytest.mark.parametrize(("switch", "shared"), [(0, 0), (150, 150), (299, 299)])
def test_before_its_invocation_one_shares_with_all(switch: int, shared: int) -> None:
    model, batch = Fake(4096, 2), Batch(2, 8192, 512)
    states = States(model, batch, 1 << 20)

    def ask(number: int, adapters: int, switch: int) -> int:
        one = Sequence(number, "a", [i % 250 for i in range(300)], 300, 5, adapters=adapters, switch=switch)
        batch.waiting.put(one)
        states.fill()
        while one.left:
            for decode in batch.next():
                model.wear(decode.adapters)
                model.decode([Part(r.sequence.slot, r.start, r.tokens, r.sample) for r in decode.rows])
                batch.decoded(decode, 0.1)
        states.release(one)
        return one.cached

    assert ask(1, 0, 0) == 0
    assert ask(2, 1, switch) == shared
    assert ask(3, 2, switch) == shared
    assert ask(4, 1, switch) == 299
