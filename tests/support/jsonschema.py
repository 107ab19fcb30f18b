"""As much of JSON schema as ours use."""

from __future__ import annotations

import math
import re
from typing import Any

_KINDS: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
    "null": type(None),
}  # fmt: skip


def valid(value: Any, rule: Any, defs: dict[str, Any]) -> bool:
    if isinstance(rule, bool):
        return rule
    if "$ref" in rule:
        return valid(value, defs[rule["$ref"].rsplit("/", 1)[1]], defs)
    if "type" in rule and not isinstance(value, _KINDS[rule["type"]]):
        return False
    if isinstance(value, bool):
        return rule.get("type", "boolean") == "boolean"
    checks = [value in rule.get("enum", [value]), value == rule.get("const", value)]
    checks += [any(valid(value, choice, defs) for choice in rule["anyOf"])] if "anyOf" in rule else []
    checks += [sum(valid(value, choice, defs) for choice in rule["oneOf"]) == 1] if "oneOf" in rule else []
    if isinstance(value, str):
        checks += [bool(re.search(rule.get("pattern", ""), value))]
        checks += [rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", len(value))]
    if isinstance(value, int | float):
        checks += [rule.get("minimum", value) <= value <= rule.get("maximum", value)]
        checks += [value < rule.get("exclusiveMaximum", math.inf)]
    if isinstance(value, list):
        checks += [valid(item, rule.get("items", True), defs) for item in value]
        checks += [rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value))]
    return all(checks) and (not isinstance(value, dict) or _valid_object(value, rule, defs))


def _valid_object(value: dict[str, Any], rule: Any, defs: dict[str, Any]) -> bool:
    checks = [key in value for key in rule.get("required", ())]
    for key, entry in value.items():
        patterns = [sub for pattern, sub in rule.get("patternProperties", {}).items() if re.search(pattern, key)]
        known = rule.get("properties", {})
        rules = [known[key]] if key in known else patterns or [rule.get("additionalProperties", True)]
        checks += [valid(entry, sub, defs) for sub in rules]
        checks += [valid(key, rule.get("propertyNames", True), defs)]
    return all(checks) and len(value) <= rule.get("maxProperties", len(value))
