"""Files are fetched from a real hub of two origins, whatever it does."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hubs import Local, local_hub

from offgridd.core.hub import HubError
from offgridd.effects.hub import HubClient
from offgridd.effects.transfer.fetch import Fetch
from offgridd.effects.transfer.pace import Crawl, Stopped
from offgridd.effects.transfer.part import Part, PartInUse
from offgridd.effects.transfer.pieces import Pieces, from_bits, to_bits
from offgridd.effects.transfer.server import Options, Origin

REPO, FILE, PIECE = "acme/Tiny-GGUF", "tiny-Q8_0.gguf", 64 << 10
DATA = random.Random(1).randbytes(20 * PIECE + 12345)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        made.put(REPO, {FILE: DATA})
        yield made


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    made = Part(tmp_path, SHA, len(DATA), PIECE)
    yield made
    made.close()


def fetch(part: Part, endpoint: str, came: Callable[[int], None] = lambda count: None, **options: Any) -> Fetch:
    client = HubClient(endpoint)
    commit = client.tree(REPO).commit
    origin = Origin(lambda: client.resolve(REPO, commit, FILE), name=endpoint)
    return Fetch(part, origin, Options(**options), came)


def whole(part: Part) -> bool:
    return part.path.read_bytes() == DATA


@pytest.mark.parametrize("connections", [1, 3, 8, 64])
def test_a_file_comes_whole_and_once(hub: Local, part: Part, connections: int) -> None:
    hub.seen.sent.clear()
    assert fetch(part, hub.base, connections=connections).run() == SHA
    assert whole(part)
    assert hub.seen.sent[""] == len(DATA)


@pytest.mark.parametrize("fault", ["drop", "reset"])
@pytest.mark.parametrize("after", [1, 10_000, 64 << 10, 100_000])
def test_what_breaks_off_goes_on_where_it_stopped(hub: Local, part: Part, fault: str, after: int) -> None:
    endpoint = hub.url(**{fault: max(after, 3000)})
    assert fetch(part, endpoint).run() == SHA
    assert whole(part)


def test_a_quiet_end_costs_no_byte_twice(hub: Local, part: Part) -> None:
    assert fetch(part, hub.url(drop=50_001)).run() == SHA
    assert hub.seen.sent["/drop=50001"] == len(DATA)


def test_a_server_without_ranges_gives_the_file_in_one(hub: Local, part: Part) -> None:
    assert fetch(part, hub.url(whole=1)).run() == SHA
    assert whole(part)


def test_a_server_without_ranges_that_breaks_off_is_given_up(hub: Local, part: Part) -> None:
    with pytest.raises(HubError, match="broke off"):
        fetch(part, hub.url(whole=1, drop=100_000)).run()


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_busy_server_is_asked_again(hub: Local, part: Part, status: int) -> None:
    assert fetch(part, hub.url(status=status, times=3, retry=0)).run() == SHA


def test_an_address_that_is_used_up_is_asked_for_again(hub: Local, part: Part) -> None:
    hub.seen.requests.clear()
    assert fetch(part, hub.url(expire=4), connections=2).run() == SHA
    heads = [path for method, path, _ in hub.seen.requests if method == "HEAD"]
    assert 5 <= len(heads) <= 12


def test_what_never_comes_is_an_error_that_may_pass(hub: Local, part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offgridd.effects.transfer.server.FIRST_PAUSE", 0.0)
    with pytest.raises(HubError) as error:
        fetch(part, hub.url(status=503)).run()
    assert error.value.failure.passing
    assert error.value.failure.reason == "ContentUnavailable"


def test_a_server_that_asks_us_to_wait_for_long_is_not_waited_for(hub: Local, part: Part) -> None:
    with pytest.raises(HubError) as error:
        fetch(part, hub.url(status=429, retry=3600)).run()
    assert error.value.failure.retry_after == 3600


def test_other_bytes_have_another_sha256(hub: Local, part: Part) -> None:
    assert fetch(part, hub.url(corrupt=1)).run() == hashlib.sha256(b"\xff" * len(DATA)).hexdigest()


def test_it_goes_on_with_what_was_there(hub: Local, tmp_path: Path) -> None:
    count = 0
    running: Fetch

    def came(some: int) -> None:
        nonlocal count
        count += some
        if count > len(DATA) // 2:
            running.stop()

    first = Part(tmp_path, SHA, len(DATA), PIECE)
    running = fetch(first, hub.base, came, connections=2)
    with pytest.raises(Stopped):
        running.run()
    before = first.pieces.here
    assert before > 0
    first.close()
    again = Part(tmp_path, SHA, len(DATA), PIECE)
    assert again.pieces.here == before
    hub.seen.sent.clear()
    assert fetch(again, hub.base).run() == SHA
    again.close()
    assert whole(again)
    assert hub.seen.sent[""] == len(DATA) - before


def test_a_connection_that_crawls_is_left(hub: Local, part: Part) -> None:
    slow = fetch(part, hub.url(stall=1000), connections=1, crawl=lambda: Crawl(1 << 30, 0.0))
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(slow.run()))
    thread.start()
    thread.join(30)
    assert done == [SHA]


def test_a_part_has_one_writer(part: Part, tmp_path: Path) -> None:
    with pytest.raises(PartInUse):
        Part(tmp_path, SHA, len(DATA), PIECE)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, None])
def test_a_damaged_map_counts_for_nothing(part: Part, tmp_path: Path, damage: bytes | None) -> None:
    part.pieces.finish(0)
    part.save()
    path = tmp_path / f"{SHA}.map"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"done": "01', b'"done": "03') if damage is None else damage)
    assert part._known(len(DATA), PIECE) == set()
    path.write_bytes(text)
    assert part._known(len(DATA), PIECE) == {0}
    assert part._known(len(DATA), 2 * PIECE) == set()


@given(st.integers(1, 200), st.data())
def test_a_bitmap_is_read_as_it_was_written(count: int, data: st.DataObject) -> None:
    done = data.draw(st.sets(st.integers(0, count - 1)))
    assert from_bits(to_bits(done, count), count) == done


@given(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 2000), st.randoms(use_true_random=False))
def test_pieces_are_taken_once_within_the_window_until_all_are_here(
    size: int, piece: int, window: int, rng: random.Random
) -> None:
    pieces = Pieces(size, piece, window)
    held: list[int] = []
    while not pieces.complete:
        number = pieces.take() if rng.random() < 0.6 else None
        if number is not None:
            start, end = pieces.span(number)
            assert start < end <= size
            assert start - pieces.prefix < max(window, piece)
            held.append(number)
        elif held:
            number = held.pop(rng.randrange(len(held)))
            (pieces.finish if rng.random() < 0.8 else pieces.give_back)(number)
        assert len(set(held)) == len(held)
        assert pieces.prefix <= pieces.here <= size
    assert pieces.here == pieces.prefix == size
