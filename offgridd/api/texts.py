"""A manifest in a request: its files as texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offgridd.core.errors import RequestRefused

Files = list[tuple[str, bytes]]


def files_of(given: Mapping[str, Any]) -> Files:
    """`{"files": [{"name", "text"}, ...]}`: the manifest first, then its conf.d and its lock. Raises RequestRefused."""
    files = given.get("files")
    if not isinstance(files, list) or not files:
        text = "cannot read the manifest: files must be a list that is not empty"
        raise RequestRefused(400, "invalid_value", text, param="files")
    return [_file(i, one) for i, one in enumerate(files)]


def _file(index: int, one: object) -> tuple[str, bytes]:
    if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(one.get("text"), str):
        where = f"files[{index}]"
        text = f"cannot read the manifest: {where} needs a name and a text"
        raise RequestRefused(400, "invalid_value", text, param=where)
    return one["name"], one["text"].encode("utf-8", "surrogatepass")
