"""Search: the hub and the catalogue together, and the catalogue alone where the hub does not answer. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from offgridd.core.hub import HubError, HubFailure
from offgridd.core.search import Found, Hit, Query, Result, matches, ordered, result
from offgridd.core.variants import RepoFile
from offgridd.effects.catalog import Catalog
from offgridd.effects.cpu import features

if TYPE_CHECKING:
    from offgridd.effects.hub import HubClient

WHOLE = 30.0  # seconds for a whole search
PAGES = 3  # of the hub's list, to fill the limit
TREES_AT_ONCE = 8
LOOKED_AT = 2000  # rows of the catalogue, where most are dropped for their size


class Searcher:
    """`client` gives the hub to ask, None where it is not to be asked; `memory`: bytes that models may take."""

    def __init__(
        self, catalog: Catalog, client: Callable[[], HubClient | None], memory: Callable[[], int | None]
    ) -> None:
        self._catalog, self._client, self._memory = catalog, client, memory
        self._pool = ThreadPoolExecutor(TREES_AT_ONCE, thread_name_prefix="trees")

    def search(self, query: Query) -> Found:
        """Raises HubError where the hub fails and the catalogue has nothing that matches."""
        client = self._client()
        if client is None:
            return self._known(query, None)
        try:
            return self._ask(client, query, time.monotonic() + WHOLE)
        except HubError as error:
            found = self._known(query, error.failure)
            if not found.results and error.failure.reason != "Offline":
                raise
            return found

    def _judged(self, query: Query) -> Callable[[Hit], Result | None]:
        memory = self._memory()
        return lambda hit: result(hit, query, memory, features())

    def _known(self, query: Query, error: HubFailure | None) -> Found:
        """From the catalogue alone."""
        made: list[Result] = []
        judge = self._judged(query)
        looked, oldest, now = 0, time.time(), time.time()
        for hit, seen in self._catalog.find(query, LOOKED_AT):
            looked += 1
            found = judge(hit)
            if found is not None:
                made.append(found)
                oldest = min(oldest, seen)
                if len(made) == query.limit:
                    break
        short = len(made) < query.limit and looked == LOOKED_AT
        return Found(tuple(made), "catalog", now - oldest, short, error)

    def _ask(self, client: HubClient, query: Query, until: float) -> Found:
        from offgridd.effects.hub.search import first_page, read_page

        url: str | None = first_page(query, client.endpoint)
        made: dict[str, Result] = {}
        judge, partial = self._judged(query), False
        for _ in range(PAGES):
            if url is None or len(made) >= query.limit:
                break
            page = read_page(client, url, until)
            wanted = [hit for hit in page.hits if matches(hit, query) and _may_have(hit, query)]
            count = len(wanted) if _sized(query) else query.limit - len(made)
            hits, cut = self._with_sizes(client, wanted[:count], until)
            self._catalog.keep([*hits, *wanted[count:]], time.time())
            made |= {r.hit.id: r for hit in hits if (r := judge(hit)) is not None}
            partial, url = partial or cut, page.next
        for hit, _ in self._catalog.find(query, query.limit):  # what it knows beside
            if hit.id not in made and (found := judge(hit)) is not None:
                made[hit.id] = found
        results = tuple(_in_order(made.values(), query)[: query.limit])
        short = len(results) < query.limit and url is not None
        return Found(results, "hub", 0.0, partial or short)

    def _with_sizes(self, client: HubClient, hits: list[Hit], until: float) -> tuple[list[Hit], bool]:
        """The hits with their files' sizes; and whether some of those could not be had."""
        trees = list(self._pool.map(lambda hit: self._tree(client, hit, until), hits))
        sized = [replace(h, files=files) if files is not None else h for h, files in zip(hits, trees, strict=True)]
        return sized, None in trees

    def _tree(self, client: HubClient, hit: Hit, until: float) -> tuple[RepoFile, ...] | None:
        """The files of a repository at its commit, with sizes; asked for once. None where they can not be had."""
        known = self._catalog.files(hit.id, hit.commit)
        if known is not None:
            return known
        if time.monotonic() > until:
            return None
        try:
            tree = client.files(hit.id, hit.commit or "main", until)
        except HubError:
            return None
        return tuple(RepoFile(f.path, f.size) for f in tree)


def _in_order(results: Iterable[Result], query: Query) -> list[Result]:
    by_id = {r.hit.id: r for r in results}
    return [by_id[hit.id] for hit in ordered((r.hit for r in by_id.values()), query)]


def _sized(query: Query) -> bool:
    """Whether sizes decide what is an answer."""
    return query.min_size is not None or query.max_size is not None or query.fits


def _may_have(hit: Hit, query: Query) -> bool:
    """Whether it may have what is asked for, by its files' names: those without sizes are not asked for in vain."""
    named = replace(query, min_size=None, max_size=None, fits=False)
    return result(hit, named, None) is not None
