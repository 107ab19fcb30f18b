"""Which files stand for given tokens, and which of too many go."""

from __future__ import annotations

import time
from array import array
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from offgridd.engine import shelfindex
from offgridd.engine.prefix import common
from offgridd.engine.shelffile import LEAST, Entry
from offgridd.engine.shelfindex import Index

SYSTEM = [*range(100)]


def entry(tokens: list[int], start: int = 0, *, size: int = 100, used: int = 0) -> Entry:
    return Entry(Path(f"{start}-{len(tokens)}-{used}"), array("I", tokens), start, size, used)


def index(*entries: Entry) -> Index:
    made = Index()
    for one in entries:
        made.add(one)
    return made


def furthest(entries: list[Entry], tokens: list[int]) -> int:
    """How far any choice of them gets, by trying again until nothing more comes."""
    reach, wanted = 0, array("I", tokens)
    while True:
        more = max((common(e.tokens, wanted) for e in entries if e.start <= reach), default=0)
        if more <= reach:
            return reach
        reach = more


tails = st.lists(st.integers(0, 1), max_size=10)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(tails, st.integers(0, LEAST + 10)), max_size=10), tails)
def test_a_chain_gets_as_far_as_any_and_has_no_gap(files: list[tuple[list[int], int]], tail: list[int]) -> None:
    first = [5] * LEAST
    wanted = [*first, *tail]
    entries = [entry([*first, *tokens], min(start, LEAST + len(tokens) - 1)) for tokens, start in files]
    chain = index(*entries).chain(array("I", wanted), whole=False)
    before = 0
    for one, reach in chain:
        assert one.start <= before < reach <= common(one.tokens, array("I", wanted))
        before = reach
    assert before == furthest(entries, wanted)


def test_a_whole_state_counts_with_all_of_its_tokens_or_not_at_all() -> None:
    short, long = entry(SYSTEM), entry([*SYSTEM, 7, 8, 9])
    found = index(long, short)
    assert [link.entry for link in found.chain(array("I", [*SYSTEM, 7, 8]), whole=True)] == [short]
    assert [link.entry for link in found.chain(array("I", [*SYSTEM, 7, 8, 9, 1]), whole=True)] == [long]
    assert found.chain(array("I", SYSTEM[:90]), whole=True) == []


def test_the_end_of_a_chain_goes_before_its_beginning_and_the_least_used_before_both() -> None:
    one, two = entry(SYSTEM, used=5), entry([*SYSTEM, *SYSTEM], 100, used=5)
    other, huge = entry([7] * 80, used=4), entry([8] * 80, size=1000, used=9)
    made = index(one, two, other, huge)
    assert made.surplus(1300) == []
    assert made.surplus(900) == [huge], "alone too large: no reason for others to go"
    assert made.surplus(150) == [huge, other, two]
    made.remove(huge)
    assert (made.held, made.surplus(300)) == (300, [])


def test_how_many_files_and_tokens_there_are_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [entry([i] * 80, used=i) for i in range(10)]
    monkeypatch.setattr(shelfindex, "MOST_FILES", 8)
    assert index(*many).surplus(1 << 30) == many[:2]
    monkeypatch.setattr(shelfindex, "MOST_TOKENS", 500)
    assert index(*many).surplus(1 << 30) == many[:4]


def test_thousands_of_files_that_begin_alike_cost_milliseconds() -> None:
    """They are looked at between two decodes."""
    turns = array("I", range(5000))
    made, many = Index(), Index()
    for i in range(4096):
        made.add(Entry(Path(), turns[: 100 + i], i and 99 + i, 100, 0))
        many.add(Entry(Path(), array("I", [*SYSTEM, i]) + turns[:500], 0, 100, 0))
    began = time.thread_time()
    assert made.reach(turns, whole=False) == 4195
    assert time.thread_time() - began < 0.5, "each file goes on from the one before"
    began = time.thread_time()
    assert many.reach(array("I", [*SYSTEM, 77]) + turns, whole=False) == 601
    assert time.thread_time() - began < 0.1, "each is another conversation"
