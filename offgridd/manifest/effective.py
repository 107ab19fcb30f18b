"""The manifest as it takes effect: every value, also those that no file gives, and where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic.fields import FieldInfo

from offgridd.manifest import benchmarksection, gitsection, sections, storesection
from offgridd.manifest.accept import merged
from offgridd.manifest.fields import Section
from offgridd.manifest.merge import origin
from offgridd.manifest.nodes import Entry, MapNode, plain
from offgridd.manifest.sourcerules import misplaced

DEFAULT: Final = "default"
_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "server": sections.Server, "server.memory": sections.Memory, "store": storesection.Store, "git": gitsection.Git,
    "models.*.source": sections.Source, "models.*.cache": sections.Cache,
    "models.*.speculative": sections.Speculative,
    "models.*.benchmark": benchmarksection.Benchmark,
}  # fmt: skip
_BY_FIELD: Final = "models.*.benchmark"  # what `defaults` has of it stands in field by field


class Value(NamedTuple):
    """`path` as in the file; `value` as JSON has it; `origin` is FILE:LINE, `defaults at FILE:LINE`, or `default`."""

    path: tuple[str, ...]
    value: Any
    origin: str


def effective(files: Sequence[tuple[str, bytes]]) -> list[Value]:
    """Of a manifest's files, in the order of the reference. Raises ManifestError where it is not valid.

    What is not set and has no default is left out.
    """
    root = merged(files)
    found = [*_section(root, ("server",), {}), *_section(root, ("store",), {})]
    found += _section(root, ("git",), {}) if "git" in root.entries else ()
    defaults = _map(root, "defaults")
    models = _map(root, "models")
    for name in sorted(models.entries if models else ()):
        values = list(_section(root, ("models", name), defaults.entries if defaults else {}))
        hub = any(value.path[2:] == ("source", "hf") for value in values)
        adapters: Any = next((value.value for value in values if value.path[2] == "adapters"), {})
        void = () if hub else set(misplaced({"adapters": adapters}))
        found += [v for v in values if v.path[2] not in void]  # elsewhere they mean nothing
    return found


def as_text(values: Sequence[Value]) -> str:
    """YAML, with the origins as comments. Where models were fetched it holds both, `git` and them."""
    lines: list[str] = ["apiVersion: offgridd/v1"]
    open_: tuple[str, ...] = ()
    for path, value, where in values:
        shared = next((i for i, (a, b) in enumerate(zip(open_, path[:-1], strict=False)) if a != b), None)
        shared = min(len(open_), len(path) - 1) if shared is None else shared
        lines += [f"{'  ' * depth}{path[depth]}:" for depth in range(shared, len(path) - 1)]
        open_ = path[:-1]
        lines.append(f"{'  ' * (len(path) - 1)}{path[-1]}: {json.dumps(value, ensure_ascii=False)}  # {where}")
    if not any(value.path[0] in ("models", "git") for value in values):
        lines.append("models: {}")
    return "\n".join(lines) + "\n"


def _section(root: MapNode, path: tuple[str, ...], defaults: Mapping[str, Entry]) -> Iterator[Value]:
    """All fields of the section at `path`; `defaults` stand in for what it lacks."""
    at = ".".join("*" if depth == 1 and path[0] == "models" else step for depth, step in enumerate(path))
    kind = sections.Model if at == "models.*" else _SECTIONS[at]
    there = _at(root, path)
    given = there.entries if there else {}
    for name, field in kind.model_fields.items():
        inner, entry = f"{at}.{name}", given.get(name)
        nested = _SECTIONS.get(inner)
        if inner == _BY_FIELD:
            yield from _by_field(root, (*path, name), defaults.get(name))
        elif nested is not None and not (entry is None and name in defaults):
            yield from _section(root, (*path, name), {})
        elif entry is not None:
            yield Value((*path, name), plain(entry.value), _origin(entry))
        elif name in defaults:
            yield Value((*path, name), plain(defaults[name].value), f"defaults at {_origin(defaults[name])}")
        elif not field.is_required() and (value := _default(field)) is not None:
            yield Value((*path, name), value, DEFAULT)


def _by_field(root: MapNode, path: tuple[str, ...], default: Entry | None) -> Iterator[Value]:
    shared = default.value.entries if default and isinstance(default.value, MapNode) else {}
    own = _map(_at(root, path[:-1]) or root, path[-1])
    if own is not None or default is not None:
        yield from _section(root, path, shared)


def _origin(entry: Entry) -> str:
    return origin(entry if isinstance(entry.value, MapNode) else entry.value)


def _default(field: FieldInfo) -> Any:
    found = field.get_default(call_default_factory=True)
    return found.model_dump(mode="json") if isinstance(found, Section) else found


def _at(root: MapNode, path: tuple[str, ...]) -> MapNode | None:
    node: MapNode | None = root
    for step in path:
        node = _map(node, step) if node else None
    return node


def _map(node: MapNode, key: str) -> MapNode | None:
    entry = node.entries.get(key)
    return entry.value if entry and isinstance(entry.value, MapNode) else None
