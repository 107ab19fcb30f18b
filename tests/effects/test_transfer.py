"""Files are fetched from a real hub of two origins, whatever it does."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hubs import Local, local_hub

from offgridd.core.hub import HubError
from offgridd.effects.hub import Gate, HubClient
from offgridd.effects.transfer.fetch import Fetch
from offgridd.effects.transfer.pace import Limits, Pace, Stopped
from offgridd.effects.transfer.part import Part, PartInUse
from offgridd.effects.transfer.pieces import Pieces, from_bits, to_bits
from offgridd.effects.transfer.server import Origin

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
    """`options` are those of Limits, or `limits` that change; and `gate`."""
    gate, limits = options.pop("gate", None) or Gate(), options.pop("limits", None)
    client = HubClient(endpoint)
    commit = client.tree(REPO).commit
    origin = Origin(lambda: client.resolve(REPO, commit, FILE), name=endpoint, gate=gate)
    return Fetch(part, origin, limits or (lambda: Limits(**options)), came)


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
    assert error.value.failure.retry_after == pytest.approx(3600, abs=5)


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


def test_a_connection_that_crawls_is_made_anew(hub: Local, part: Part) -> None:
    hub.seen.requests.clear()
    endpoint = hub.url(crawl=20_000, times=1)  # bytes a second, of the first connection
    assert fetch(part, endpoint, connections=2, min_rate=1e6, within=0.2).run() == SHA
    ranges = [headers["range"] for _, _, headers in hub.seen.requests if "range" in headers]
    assert len({text.partition("-")[2] for text in ranges}) < len(ranges), "one was asked for anew, from where it was"


def test_a_transfer_that_crawls_on_all_connections_ends(hub: Local, part: Part) -> None:
    with pytest.raises(HubError) as error:
        fetch(part, hub.url(crawl=20_000), connections=2, min_rate=1e6, within=0.2).run()
    assert (error.value.failure.reason, error.value.failure.passing) == ("TooSlow", True)


def test_a_hub_that_wants_to_be_left_alone_is_left_alone_by_every_transfer(hub: Local, tmp_path: Path) -> None:
    """The first is told 429 for long and gives up; the second, which waits at the same gate, asks for nothing."""
    gate, endpoint = Gate(), hub.url(status=429, times=1, retry=200)
    for name in ("a", "b"):
        part = Part(tmp_path, name, len(DATA), PIECE)
        before = len(hub.seen.requests)
        with pytest.raises(HubError) as error:
            fetch(part, endpoint, gate=gate, connections=1).run()
        assert error.value.failure.reason == "RateLimited"
        assert error.value.failure.retry_after == pytest.approx(200, abs=5)
        part.close()
    asked = [path for method, path, _ in hub.seen.requests[before:] if method == "HEAD" or "/cdn" in path]
    assert asked == []
    client = HubClient(endpoint, gate=gate)
    before = len(hub.seen.requests)
    with pytest.raises(HubError, match="rate limit"):
        client.tree(REPO)
    assert len(hub.seen.requests) == before


def test_a_pause_is_kept_before_the_first_request(hub: Local, part: Part) -> None:
    gate, asked_at = Gate(), []
    gate.close(0.5)
    until = time.monotonic() + gate.left()
    fetch(part, hub.base, lambda count: asked_at.append(time.monotonic()), gate=gate).run()
    assert min(asked_at) >= until


def test_limits_are_asked_for_as_it_goes(hub: Local, part: Part) -> None:
    """One connection and next to nothing a second, until some bytes have come; then four, as fast as it goes."""
    now = Limits(connections=1, rate=1000.0)
    threads: set[int] = set()

    def came(_count: int) -> None:
        nonlocal now
        now = Limits(connections=4)
        threads.add(threading.get_ident())

    hub.seen.sent.clear()
    running = fetch(part, hub.url(drop=1 << 20), came, limits=lambda: now)
    assert running.run() == SHA
    assert 1 < len(threads) <= 4
    assert hub.seen.sent["/drop=1048576"] == len(DATA)


def test_fewer_connections_are_used_once_fewer_are_declared(hub: Local, part: Part) -> None:
    now, busy = Limits(connections=8), []

    def came(_count: int) -> None:
        nonlocal now
        now = Limits(connections=1)
        busy.append(threading.get_ident())

    assert fetch(part, hub.base, came, limits=lambda: now).run() == SHA
    assert len(set(busy[-8:])) == 1


def test_a_part_has_one_writer(part: Part, tmp_path: Path) -> None:
    with pytest.raises(PartInUse):
        Part(tmp_path, SHA, len(DATA), PIECE)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, None])
def test_a_damaged_map_counts_for_nothing(part: Part, tmp_path: Path, damage: bytes | None) -> None:
    part.save({0})
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


SIZES = st.tuples(st.integers(0, 5000), st.integers(1, 300), st.integers(1, 2000), st.integers(1, 9))


@given(SIZES, st.integers(1, 40), st.randoms(use_true_random=False))
def test_bytes_are_taken_once_within_the_window_until_all_are_here(
    sizes: tuple[int, int, int, int], least: int, rng: random.Random
) -> None:
    size, piece, window, sharers = sizes
    before = set(rng.sample(range(-(-size // piece)), rng.randint(0, -(-size // piece))))
    pieces = Pieces(size, piece, window, set(before), least)
    held: list[tuple[int, int]] = []
    here = bytearray(size)
    for number in before:
        here[slice(*pieces.span(number))] = b"x" * (pieces.span(number)[1] - pieces.span(number)[0])
    while not pieces.complete:
        taken = pieces.take(sharers) if len(held) < sharers and rng.random() < 0.6 else None
        if taken is not None:
            start, end = taken
            assert start < end <= size
            assert start // piece == (end - 1) // piece
            assert start - pieces.prefix < max(window, piece)
            assert not any(here[start:end])
            held.append(taken)
        elif held:
            start, end = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.3 and end - start > 1:
                pieces.reach(start, (start + end) // 2)
                assert pieces.prefix <= size
            assert not any(here[start:end]), "no byte comes twice"
            here[start:end] = b"x" * (end - start)
            if (number := pieces.came(start, end)) is not None:
                assert all(here[slice(*pieces.span(number))])
                pieces.finish(number)
            assert here[: pieces.prefix].count(0) <= (end - start if held else 0) + sum(b - a for a, b in held)
        begun = {start // piece for start, _ in held}
        lost = {n for n in range(pieces.count) if n not in pieces.done and any(here[slice(*pieces.span(n))])} - begun
        assert len(begun | lost) <= sharers, "so many pieces are fetched again after a kill, and no more"
    assert all(here)
    assert pieces.here == pieces.prefix == size
    assert pieces.take(sharers) is None


@given(st.integers(1, 9), st.integers(1, 400))
def test_near_the_end_spans_are_small_so_that_all_connections_end_together(sharers: int, count: int) -> None:
    pieces = Pieces(count * 1000, 8000, 10**9, set(), 1000)
    spans = list(iter(lambda: pieces.take(sharers), None))
    assert sum(end - start for start, end in spans) == pieces.size
    if sharers > 1:
        last = max(end - start for start, end in spans[-sharers:])
        assert last <= max(1000, sum(end - start for start, end in spans[-sharers - 1 :]) // sharers + 1000)
    else:
        assert len(spans) == pieces.count


def test_a_limit_holds_for_all_threads_and_can_be_changed_while_somebody_waits() -> None:
    now, rate = 0.0, 100.0
    slept: list[float] = []
    pace = Pace(lambda: rate, lambda: now)

    def sleep(seconds: float) -> None:
        nonlocal now, rate
        slept.append(seconds)
        now += seconds
        rate = 1000.0 if now > 3 else rate

    pace.sleep = sleep  # type: ignore[method-assign]
    pace.took(100)
    assert now == pytest.approx(1.0)
    pace.took(1000)
    assert now == pytest.approx(3.5 + 750 / 1000, abs=0.6), "250 bytes at the old limit, the rest at the new one"
    assert max(slept) <= 0.5
    now += 100  # what nobody took in that time is not taken all at once
    began = now
    pace.took(500)
    assert now - began == pytest.approx(0.5)
