"""What an answer must match, from a request's JSON: response_format, regex, lark or grammar (GBNF). Pure."""

from __future__ import annotations

import json
from typing import Any

from offgridd.api.params import bad
from offgridd.engine.wire import Constraint

MAX_TEXT = 64 << 10  # characters
NAMES = {"regex": "regex", "lark": "lark", "grammar": "gbnf"}  # parameter -> kind


def parse_constraint(body: dict[str, Any]) -> Constraint | None:
    """Raises RequestRefused. Whether a grammar can be honoured is for the worker to say."""
    found = [made for made in (_format(body.get("response_format")), *(_text(body, n) for n in NAMES)) if made]
    if len(found) > 1:
        raise bad("response_format", "regex, lark and grammar exclude each other and it")
    return found[0] if found else None


def _text(body: dict[str, Any], name: str) -> Constraint | None:
    text = body.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        raise bad(name, f"it must be a text of 1 to {MAX_TEXT} characters")
    return Constraint(NAMES[name], text)


def _format(value: object) -> Constraint | None:
    where = "response_format"
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind not in ("text", "json_object", "json_schema"):
        raise bad(where, "its type must be text, json_object or json_schema")
    if kind != "json_schema":
        return Constraint("json_object") if kind == "json_object" else None
    inner = value.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if not isinstance(schema, dict):
        raise bad(f"{where}.json_schema", "it must have a schema, which must be an object", "invalid_schema")
    text = json.dumps(schema, ensure_ascii=False)
    if len(text) > MAX_TEXT:
        raise bad(f"{where}.json_schema", f"its schema is longer than {MAX_TEXT} characters", "invalid_schema")
    return Constraint("json_schema", text)
