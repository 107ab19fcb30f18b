"""A sync against hubs that are whole, busy, gone, or have a list without an end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.hubs import Local, local_hub

from offgridd.core.errors import ActionFailed
from offgridd.core.search import Query
from offgridd.devhub.answers import Answer, Request, error
from offgridd.devhub.routes import Hub
from offgridd.devhub.serve import serving
from offgridd.effects import syncer as syncing
from offgridd.effects.catalog import Catalog
from offgridd.effects.hub import HubClient
from offgridd.effects.syncer import Syncer

Page = Callable[[int], tuple[list[dict[str, Any]], str | None]]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog(tmp_path / "catalog.db")
    yield made
    made.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local_hub(tmp_path_factory.mktemp("hub")) as made:
        for n in range(7):
            made.put(f"{'acme' if n < 5 else 'zoo'}/Model-{n}-GGUF", {f"m{n}-Q4_K_M.gguf": b"x"}, downloads=n)
        yield made


class Listed(Hub):
    """A hub of one list; `answers` gives the answer of each request, by its number."""

    def __init__(self, answers: Callable[[int, Request], Answer]) -> None:
        self._answers, self.asked = answers, 0

    def answer(self, request: Request) -> Answer:
        self.asked += 1
        return self._answers(self.asked - 1, request)


def page(number: int, request: Request, following: str | None = "another", count: int = 2) -> Answer:
    models = [{"id": f"acme/m{number}-{n}", "siblings": [{"rfilename": "m-Q8_0.gguf"}]} for n in range(count)]
    link = {"Link": f'<{request.base}/api/models?cursor={number}{following}>; rel="next"'} if following else {}
    return Answer(200, json.dumps(models).encode(), link)


def client_of(base: str) -> HubClient:
    return HubClient(base)


def names(catalog: Catalog) -> list[str]:
    return [hit.id for hit, _ in catalog.find(Query(sort="downloads"))]


async def sync(catalog: Catalog, client: HubClient | None, query: Query, limit: int = 100) -> Any:
    told: list[tuple[int, int]] = []
    result = await Syncer(catalog, lambda: client).sync(query, limit, lambda here, size: told.append((here, size)))
    return result, told


async def test_all_pages_are_kept(catalog: Catalog, hub: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "PAGE", 3)
    result, told = await sync(catalog, client_of(hub.base), Query(sort="downloads"))
    assert result == {"models": 7, "more": False, "known": 7}
    assert told == [(3, 100), (6, 100), (7, 100)]
    assert names(catalog)[0] == "zoo/Model-6-GGUF"
    assert catalog.known().sized == 0


async def test_author_words_and_limit(catalog: Catalog, hub: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "PAGE", 2)
    result, _ = await sync(catalog, client_of(hub.base), Query(author="acme", sort="downloads"), 3)
    assert result == {"models": 3, "more": True, "known": 3}
    assert names(catalog) == [f"acme/Model-{n}-GGUF" for n in (4, 3, 2)]
    result, _ = await sync(catalog, client_of(hub.base), Query("model-6", sort="downloads"))
    assert result == {"models": 1, "more": False, "known": 4}


@pytest.mark.parametrize("client", [None, HubClient("http://127.0.0.1:9", offline=lambda: True)])
async def test_offline_fails_at_once(catalog: Catalog, client: HubClient | None) -> None:
    with pytest.raises(ActionFailed) as caught:
        await sync(catalog, client, Query())
    assert caught.value.failure.reason == "Offline"


async def test_a_hub_that_is_not_there_is_told_at_once(catalog: Catalog) -> None:
    with anyio.fail_after(5), pytest.raises(ActionFailed) as caught:
        await sync(catalog, client_of("http://127.0.0.1:9"), Query())
    assert caught.value.failure.reason == "HubUnreachable"


def limited(seconds: int) -> Answer:
    return error(429, "too many", headers={"RateLimit": f'"api";r=0;t={seconds}'})


async def test_a_short_wait_is_waited(catalog: Catalog) -> None:
    found = Listed(lambda n, r: limited(1) if n in (0, 2) else page(n, r, None if n > 4 else "x"))
    with serving(found) as (base, _):
        result, _ = await sync(catalog, client_of(base), Query())
    assert (result["models"], found.asked) == (8, 6)


@pytest.mark.parametrize(
    ("second", "reason", "text"),
    [
        (lambda _: limited(3000), "RateLimited", "2 models were kept; sync again in 3000 s"),
        (lambda _: error(503, "away", headers={"Retry-After": "0"}), "HubUnavailable", "2 models were kept"),
        (lambda _: error(404, "no"), "RepoNotFound", "2 models were kept"),
        (lambda _: Answer(200, b'{"a": 1}'), "BadAnswer", "2 models were kept"),
        (lambda _: Answer(200, b"[" * 100_000), "BadAnswer", "2 models were kept"),
        (lambda _: Answer(200, b'[{"id": "acme/m'), "BadAnswer", "2 models were kept"),
    ],
)
async def test_what_was_kept_stays(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, second: Callable[[Request], Answer], reason: str, text: str
) -> None:
    monkeypatch.setattr(syncing, "AGAIN", 0.01)
    found = Listed(lambda n, r: page(n, r) if n == 0 else second(r))
    with serving(found) as (base, _), pytest.raises(ActionFailed) as caught:
        await sync(catalog, client_of(base), Query())
    failure = caught.value.failure
    assert failure.reason == reason
    assert text in failure.message
    assert len(names(catalog)) == 2
    assert found.asked == (2 if reason in ("RateLimited", "RepoNotFound") else 1 + syncing.TRIES)


async def test_one_page_may_fail_in_passing(catalog: Catalog) -> None:
    away = error(503, "away", headers={"Retry-After": "0"})
    found = Listed(lambda n, r: away if n in (1, 2, 4) else page(n, r, None if n > 4 else "x"))
    with serving(found) as (base, _):
        result, _ = await sync(catalog, client_of(base), Query())
    assert result["models"] == 6


@pytest.mark.parametrize(
    "answers",
    [
        lambda n, r: page(n, r, count=0),  # pages of nothing, for ever
        lambda n, r: page(0, r, "same"),  # the same page for ever
        lambda n, r: Answer(200, b'[1, null, {}, {"id": 5}, {"id": "a/../b"}, {"id": "a\\nb/c"}]', page(n, r).headers),
    ],
)
async def test_a_list_without_an_end_ends(catalog: Catalog, answers: Callable[[int, Request], Answer]) -> None:
    with serving(Listed(answers)) as (base, _), anyio.fail_after(20), pytest.raises(ActionFailed) as caught:
        await sync(catalog, client_of(base), Query())
    assert caught.value.failure.reason == "BadAnswer"


async def test_a_list_that_goes_elsewhere_is_not_followed(catalog: Catalog) -> None:
    link = {"Link": '<http://127.0.0.2:9/steal>; rel="next"'}
    found = Listed(lambda n, r: Answer(200, page(n, r).body, link))
    with serving(found) as (base, _), pytest.raises(ActionFailed) as caught:
        await sync(catalog, client_of(base), Query())
    assert caught.value.failure.reason == "BadAnswer"
    assert len(names(catalog)) == 2


async def test_a_disk_that_takes_nothing_is_told(tmp_path: Path, hub: Local) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ActionFailed) as caught:
        await sync(Catalog(tmp_path / "cache" / "catalog.db"), client_of(hub.base), Query())
    assert caught.value.failure.reason == "StateNotWritable"


async def test_called_off_it_ends_and_what_was_kept_stays(catalog: Catalog) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def answers(number: int, request: Request) -> Answer:
        if number == 1:
            waiting.set()
            go_on.wait(20)
        return page(number, request)

    with serving(Listed(answers)) as (base, _), anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            group.start_soon(sync, catalog, client_of(base), Query())
            assert await anyio.to_thread.run_sync(waiting.wait, 10)
            group.cancel_scope.cancel()
        go_on.set()
    assert len(names(catalog)) == 2
