"""From parser events to nodes, within a budget.

`yamltext` feeds it. It resolves scalars by a small subset of YAML 1.2, keeps a stack of its own instead of recursing,
shares what an alias stands for instead of copying it, and refuses tags, merge keys and keys that are not text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from offgridd.core.errors import ManifestError, Problem
from offgridd.manifest.nodes import Entry, ListNode, MapNode, Mark, Node, Scalar

MAX_NODES: Final = 100_000  # values after aliases are expanded, in all files together
MAX_CHARS: Final = 4 << 20  # text after aliases are expanded, in all files together
MAX_DEPTH: Final = 64
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None, "~": None, "": None}
_INT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_BROKEN: Final = re.compile("[\0\ud800-\udfff]")  # only escapes can write these


@dataclass(slots=True)
class Budget:
    """What all files of one manifest may still use."""

    nodes: int = MAX_NODES
    chars: int = MAX_CHARS

    @property
    def spent(self) -> bool:
        return self.nodes < 0 or self.chars < 0


def refuse(reason: str, message: str, mark: Mark) -> NoReturn:
    raise ManifestError((Problem(reason, message, *mark),))


@dataclass(slots=True)
class _Anchored:
    """What an alias stands for, and what its expansion costs."""

    node: Node
    nodes: int
    chars: int
    height: int


@dataclass(slots=True)
class _Open:
    """A collection that has begun and not ended."""

    node: ListNode | MapNode
    anchor: str | None
    before: Budget  # what was left when it began
    wants_key: bool
    key_mark: Mark
    key: str = ""
    height: int = 0


class Builder:
    """Makes nodes from events, with a stack of its own instead of recursion."""

    def __init__(self, file: str, budget: Budget) -> None:
        self._file = file
        self._budget = budget
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}  # None: the collection is still open
        self._documents = 0
        self._root: Node | None = None

    def document(self) -> MapNode:
        root, start = self._root, Mark(self._file, 1, 1)
        if root is None or (isinstance(root, Scalar) and root.value is None):
            message = "cannot accept an empty file: it may be half written; write 'models: {}' to declare no models"
            refuse("Empty", message, start)
        if not isinstance(root, MapNode):
            what = "a list" if isinstance(root, ListNode) else "one value"
            refuse("WrongType", f"cannot use the file: it holds {what}, not a map; begin with 'apiVersion:'", root.mark)
        return root

    def feed(self, event: yaml.Event) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self._scalar(event)
        elif kind is yaml.MappingStartEvent:
            self._open(event, MapNode(self._mark(event)))
        elif kind is yaml.SequenceStartEvent:
            self._open(event, ListNode([], self._mark(event)))
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._close()
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                message = "cannot read a second document: a manifest is one; remove this '---'"
                refuse("ParseError", message, self._mark(event))

    def _mark(self, event: Any) -> Mark:
        at = event.start_mark
        return Mark(self._file, at.line + 1, at.column + 1)

    def _spend(self, nodes: int, chars: int, mark: Mark) -> None:
        budget = self._budget
        budget.nodes -= nodes
        budget.chars -= chars
        if budget.nodes < 0 or budget.chars < 0:
            limit = f"{MAX_NODES} values" if budget.nodes < 0 else f"{MAX_CHARS} characters"
            message = f"cannot read a manifest this big: more than {limit}, aliases expanded; make it smaller"
            refuse("TooComplex", message, mark)

    def _check_depth(self, depth: int, mark: Mark) -> None:
        if depth > MAX_DEPTH:
            refuse("TooComplex", f"cannot read this: nested deeper than {MAX_DEPTH} levels; make it flatter", mark)

    def _check_tag(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            tag = ascii(event.tag[:60])
            refuse("ParseError", f"cannot use the tag {tag}: a manifest has none; remove it", mark)

    def _scalar(self, event: Any) -> None:
        mark, text, is_plain = self._mark(event), event.value, event.implicit[0]
        self._check_tag(event, mark)
        if _BROKEN.search(text):
            refuse("ParseError", "cannot use this text: it holds a NUL or half a character; remove it", mark)
        value = _resolve(text) if is_plain else text
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(Scalar(value, text, mark), 1, len(text), 0)
        top = self._stack[-1] if self._stack else None
        if top and top.wants_key:
            self._spend(0, len(text), mark)
            self._check_key(top.node, value, text, mark)
            if is_plain and value == "<<":
                message = "cannot use the merge key '<<': manifests have none; write the fields out or use 'defaults'"
                refuse("ParseError", message, mark)
            top.key, top.key_mark, top.wants_key = text, mark, False
        else:
            self._spend(1, len(text), mark)
            self._add(Scalar(value, text, mark), 0)

    def _check_key(self, parent: Node, value: object, text: str, mark: Mark) -> None:
        number = type(value) is int and str(value) == text  # of a GPU: it can be written in one way only
        if not isinstance(value, str) and not number:
            message = f"cannot use the key {text[:60]!a}: it is not text; put it in quotes"
            refuse("ParseError", message, mark)
        if isinstance(parent, MapNode) and text in parent.entries:
            first = parent.entries[text].mark.line
            message = f"cannot use the key {text[:60]!a} twice: it stands at line {first} too; remove one of them"
            refuse("DuplicateKey", message, mark)

    def _open(self, event: Any, node: ListNode | MapNode) -> None:
        self._check_tag(event, node.mark)
        self._refuse_as_key(node.mark)
        self._check_depth(len(self._stack) + 1, node.mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        before = Budget(self._budget.nodes, self._budget.chars)
        self._spend(1, 0, node.mark)
        self._stack.append(_Open(node, event.anchor, before, isinstance(node, MapNode), node.mark))

    def _close(self) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            nodes, chars = done.before.nodes - self._budget.nodes, done.before.chars - self._budget.chars
            self._anchors[done.anchor] = _Anchored(done.node, nodes, chars, done.height + 1)
        self._add(done.node, done.height + 1)

    def _alias(self, event: Any) -> None:
        mark, shown = self._mark(event), ascii(event.anchor[:60])
        self._refuse_as_key(mark)
        if event.anchor not in self._anchors:
            refuse("ParseError", f"cannot find the anchor {shown}: nothing above has it; correct the name", mark)
        target = self._anchors[event.anchor]
        if target is None:
            refuse("ParseError", f"cannot use the alias {shown}: it contains itself; write the value out", mark)
        self._check_depth(len(self._stack) + target.height, mark)
        self._spend(target.nodes, target.chars, mark)
        self._add(target.node, target.height)

    def _refuse_as_key(self, mark: Mark) -> None:
        if self._stack and self._stack[-1].wants_key:
            refuse("ParseError", "cannot use this as a key: it is not plain text; write the key out", mark)

    def _add(self, node: Node, height: int) -> None:
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if height > top.height:
            top.height = height
        if isinstance(top.node, ListNode):
            top.node.items.append(node)
        elif isinstance(top.node, MapNode):
            top.node.entries[top.key] = Entry(top.key_mark, node)
            top.wants_key = True


def _resolve(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar. Whatever is not plainly one of ours stays text, and the schema judges it."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-0123456789":
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text) + 0.0  # -0.0 is 0.0
    return text
