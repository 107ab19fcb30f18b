"""Reading a body: how deep it is, what it may hold, and that no bytes take longer than their number says."""

from __future__ import annotations

import json
import time
from timeit import repeat
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from offgridd.api.body import MAX_DEPTH, depth, parse
from offgridd.core.errors import RequestRefused

TEXTS = st.text(alphabet='"\\[]{}a\n', max_size=8)
VALUES = st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))


def levels(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.sampled_from([None, 1]))
def test_the_depth_is_that_of_the_value_whatever_its_strings_hold(value: Any, indent: int | None) -> None:
    assert depth(json.dumps(value, indent=indent).encode()) == levels(value)


@pytest.mark.parametrize("text", [b'""', b'"\\\\"', b'"\\"["', b'"[[[{{{"'])
def test_one_level_more_than_allowed_is_refused(text: bytes) -> None:
    inner = MAX_DEPTH - 1
    assert parse(b'{"a":' + b"[" * inner + text + b"]" * inner + b"}")
    with pytest.raises(RequestRefused, match="deeper than 64"):
        parse(b'{"a":' + b"[" * (inner + 1) + text + b"]" * (inner + 1) + b"}")


def keys(count: int) -> bytes:
    return b"{" + b"".join(b'"%d":1,' % i for i in range(count)) + b'"%d":2}' % (count - 1)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        *[(piece * (8192 // len(piece)), piece * (32768 // len(piece))) for piece in (b'\\"', b'"', b'"a', b'"[')],
        (keys(4000), keys(16000)),
    ],
    ids=["escaped quotes", "quotes", "strings", "brackets in strings", "a key twice"],
)
def test_four_times_the_bytes_take_four_times_as_long(small: bytes, large: bytes) -> None:
    def seconds(data: bytes) -> float:
        return min(repeat(lambda: refused(data), timer=time.thread_time, number=1, repeat=7))

    assert seconds(large) < 10 * seconds(small), "16 times would be quadratic"


def refused(data: bytes) -> None:
    with pytest.raises(RequestRefused):
        parse(data)
