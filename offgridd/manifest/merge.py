"""Lays the conf.d files over the main one.

`accept` calls it with the files in their order. Maps merge by key, lists and scalars are replaced, the later file
wins and its null deletes; every value keeps the position it was written at. It never changes a node in place.
"""

from __future__ import annotations

from collections.abc import Iterable

from offgridd.manifest.nodes import Entry, MapNode, Node, Scalar, leaves
from offgridd.manifest.problems import dotted


def merge(main: MapNode, fragments: Iterable[MapNode]) -> MapNode:
    """The manifest that all files make together. A null in the main file stays, for the schema to refuse."""
    for fragment in fragments:
        main = _overlay(main, fragment)
    return main


def origins(root: MapNode) -> dict[str, str]:
    """Where each value was written: `models.qwen.context` -> `FILE:LINE`."""
    return {dotted(path): origin(node) for path, node in leaves(root)}


def origin(node: Node | Entry) -> str:
    return f"{node.mark.file}:{node.mark.line}"


def _overlay(base: MapNode, top: MapNode) -> MapNode:
    merged = MapNode(base.mark, dict(base.entries))
    for key, entry in top.entries.items():
        if _is_null(entry.value):
            merged.entries.pop(key, None)
            continue
        if isinstance(entry.value, MapNode):
            old = merged.entries.get(key)
            # Over nothing or a scalar too: the nulls inside must go.
            under = old.value if old and isinstance(old.value, MapNode) else MapNode(entry.value.mark)
            entry = Entry(old.mark if old else entry.mark, _overlay(under, entry.value))
        merged.entries[key] = entry
    return merged


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
