"""What the loader hands out: values that know where they were written.

Everything in `manifest` reads these; nothing changes one after the loader made it, since aliases and merged
documents share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

Path = tuple[str | int, ...]


class Mark(NamedTuple):
    """Where something begins; line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(slots=True)
class Scalar:
    value: str | int | float | bool | None
    text: str  # as written, without quotes: what an error shows
    mark: Mark


@dataclass(slots=True)
class ListNode:
    items: list[Node]
    mark: Mark


@dataclass(slots=True)
class Entry:
    mark: Mark  # of the key
    value: Node


@dataclass(slots=True)
class MapNode:
    mark: Mark
    entries: dict[str, Entry] = field(default_factory=dict)


Node = Scalar | ListNode | MapNode


def plain(node: Node) -> object:
    """The same value as dicts, lists and scalars. Depth is bounded by the loader, so recursion is safe."""
    match node:
        case Scalar():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key: plain(entry.value) for key, entry in node.entries.items()}


def locate(root: MapNode, path: Path) -> tuple[Mark, Node | None]:
    """Where `path` stands and what is there.

    A scalar is found at itself, all else at its key; a path that leads nowhere at the last thing there is, with None.
    """
    mark, node = root.mark, root
    current: Node = node
    for step in path:
        if isinstance(current, MapNode) and isinstance(step, str) and step in current.entries:
            entry = current.entries[step]
            current = entry.value
            mark = current.mark if isinstance(current, Scalar) else entry.mark
        elif isinstance(current, ListNode) and isinstance(step, int) and step < len(current.items):
            current = current.items[step]
            mark = current.mark
        else:
            return mark, None
    return mark, current


def key_mark(root: MapNode, path: Path) -> Mark:
    """Where the key that ends `path` was written."""
    mark, parent = locate(root, path[:-1])
    if isinstance(parent, MapNode) and path[-1] in parent.entries:
        return parent.entries[str(path[-1])].mark
    return mark


def leaves(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every value that is replaced as one: scalars, lists and empty maps."""
    if isinstance(node, MapNode) and node.entries:
        for key, entry in node.entries.items():
            yield from leaves(entry.value, (*path, key))
    else:
        yield path, node
