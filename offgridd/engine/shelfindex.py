"""Which files a shelf has, which of them stand for given tokens, and which go when they are too many. Pure.

A file that starts behind the beginning is of use only where others reach its start, so that files are used as chains.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterator
from typing import NamedTuple

from offgridd.engine.prefix import common
from offgridd.engine.shelffile import LEAST, Entry

MOST_FILES = 4096
MOST_TOKENS = 16 << 20  # of all files: they are in memory


class Link(NamedTuple):
    """A file in a chain, and up to which token the chain stands for what was asked with it."""

    entry: Entry
    reach: int


class Index:
    def __init__(self) -> None:
        self._groups: dict[bytes, list[Entry]] = {}  # by the first LEAST tokens; in each by where they start
        self.held = 0  # bytes of files

    def __iter__(self) -> Iterator[Entry]:
        return (entry for group in self._groups.values() for entry in group)

    def add(self, entry: Entry) -> None:
        insort(self._groups.setdefault(_first(entry.tokens), []), entry, key=lambda one: one.start)
        self.held += entry.size

    def remove(self, entry: Entry) -> None:
        first = _first(entry.tokens)
        group = self._groups.get(first, [])
        if entry in group:
            group.remove(entry)
            self.held -= entry.size
        if not group:
            self._groups.pop(first, None)

    def chain(self, tokens: array[int], *, whole: bool) -> list[Link]:
        """Files that stand for as many of the first tokens as possible; `whole`: a file counts with all or nothing.

        Of those that start where the chain has come to, the one that reaches furthest: no other choice gets further.
        """
        found: list[Link] = []
        best, reach, most = None, 0, 0
        for entry in self._groups.get(_first(tokens), ()):
            if entry.start > reach:
                if best is None:
                    break
                found.append(Link(best, most))
                best, reach = None, most
                if entry.start > reach:
                    break
            if (alike := _alike(entry.tokens, tokens, most, whole=whole)) > most:
                best, most = entry, alike
        return found if best is None else [*found, Link(best, most)]

    def reach(self, tokens: array[int], *, whole: bool) -> int:
        """How many of the first tokens are in files."""
        chain = self.chain(tokens, whole=whole)
        return chain[-1].reach if chain else 0

    def surplus(self, budget: int) -> list[Entry]:
        """What has to go: what alone is too large, then what was not used for longest, the end of a chain first."""
        every = list(self)
        held, count, tokens = self.held, len(every), sum(len(one.tokens) for one in every)
        if held <= budget and count <= MOST_FILES and tokens <= MOST_TOKENS:
            return []
        going: list[Entry] = []
        for one in sorted(every, key=lambda one: (one.size <= budget, one.used, -one.start)):
            if held <= budget and count <= MOST_FILES and tokens <= MOST_TOKENS:
                break
            going.append(one)
            held, count, tokens = held - one.size, count - 1, tokens - len(one.tokens)
        return going


def _alike(kept: array[int], tokens: array[int], most: int, *, whole: bool) -> int:
    """How many of the first tokens are the same; 0 where that is seen to be no more than `most`."""
    if whole:
        size = len(kept)
        return size if most < size <= len(tokens) and kept == tokens[:size] else 0
    if most >= min(len(kept), len(tokens)) or kept[most] != tokens[most]:
        return 0  # of thousands of files that begin alike few are compared
    return common(kept, tokens)


def _first(tokens: array[int]) -> bytes:
    return tokens[:LEAST].tobytes()
