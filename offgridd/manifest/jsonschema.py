"""The JSON schema of the manifest, for editors, and the reference page for people: both from the pydantic models.

`offgrid schema` and `python -m offgridd.manifest` call it. It never says a thing that validation does not do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from offgridd.manifest import gitsection, sections, values
from offgridd.manifest.fields import CHANGE, Section

JsonSchema = dict[str, Any]

_COSTS: Final = """\
**A change** says what an edit of the field costs:

- *live*: the next request has it; nothing is loaded again.
- *reload*: this model's worker is replaced. The old one answers its open requests, for at most `drain`.
- *verify*: this model's file is found and hashed again; the worker is replaced only when the bytes differ.
"""
_INTRO: Final = f"""\
# The manifest

<!-- Written by `python -m offgridd.manifest` from the schema. Do not edit. -->

One YAML file says what runs. An unknown key, a wrong type or a value out of range refuses the whole file, with line and
column; what ran before goes on.

- Numbers are plain decimals, `true` and `false` are written so; all else is text: `on`, `010` and `20:00` too. Text
  that looks like a number needs quotes. Tags and merge keys (`<<`) are refused; anchors and aliases work.
- Where the type is *size*, write {values.WANTED_SIZE}. GB is 10^9 bytes, GiB is 2^30.
- Where it is *duration*, write {values.WANTED_DURATION}.
- Where it is *rate over duration*, write {values.WANTED_MIN_RATE}.
- Files `conf.d/*.yaml` beside the manifest are laid over it in byte order. They may leave out `apiVersion`. Maps merge
  by key, lists and scalars are replaced, the later file wins, `null` deletes. An empty file is refused: write `{{}}`.
- For completion in an editor, begin the file with
  `# yaml-language-server: $schema=` and the path of [manifest.schema.json](manifest.schema.json).

{_COSTS}"""
_PAGES: Final = (
    ("Top level", "Manifest"),
    ("server", "Server"),
    ("server.memory", "Memory"),
    ("store", "Store"),
    ("git", "Git"),
    ("git.verify", "Verify"),
    ("defaults", "Defaults"),
    ("defaults.cache", "Cache"),
    ("defaults.speculative", "Speculative"),
    ("defaults.benchmark", "Benchmark"),
    ("defaults.token", "Token"),
    ("models.NAME", "Model"),
    ("models.NAME.source", "Source"),
    ("models.NAME.adapters.ADAPTER", "Adapter"),
)


def schema() -> JsonSchema:
    """Draft 2020-12. It checks what one field alone can tell; `offgrid check` knows the rest."""
    raw = sections.Manifest.model_json_schema()
    tidied: JsonSchema = _tidy(raw)
    models = tidied["properties"]["models"]
    models["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "offgridd manifest", **tidied}


def schema_text() -> str:
    """`docs/manifest.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """`docs/manifest.md`."""
    whole = schema()
    parts = [_INTRO]
    for title, name in _PAGES:
        section = whole if name == "Manifest" else whole["$defs"][name]
        fields = dict(section["properties"])
        if name == "Model":
            fields = {key: value for key, value in fields.items() if key not in sections.Defaults.model_fields}
        parts.append(f"\n## {title}\n\n{section['description']}\n")
        if fields:
            parts.append("\n| Field | Type | Default | A change | Meaning |\n| --- | --- | --- | --- | --- |\n")
            parts.extend(_row(whole, key, field, key in section.get("required", ())) for key, field in fields.items())
        parts.append(_not_yet(getattr(sections, name, None) or getattr(gitsection, name)))
    return "".join(parts)


def _tidy(node: Any) -> Any:
    """Without pydantic's titles, and without null: only a conf.d file may say it, to delete."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key != "title" and (key, value) != ("default", None)}
    choices = [choice for choice in kept.pop("anyOf", ()) if choice != {"type": "null"}]
    if choices:
        kept = {**(choices[0] if len(choices) == 1 else {"anyOf": choices}), **kept}
    return {key: _tidy(value) for key, value in kept.items()}


def _row(whole: JsonSchema, key: str, field: JsonSchema, required: bool) -> str:
    target = whole["$defs"][field["$ref"].rsplit("/", 1)[1]] if "$ref" in field else {}
    default = "required" if required else f"`{json.dumps(field['default'])}`" if "default" in field else ""
    meaning = field.get("description") or target["description"]
    cells = (f"`{key}`", _type(field), default, field.get(CHANGE, ""), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(field: JsonSchema) -> str:
    if "$ref" in field or "patternProperties" in field:
        return "map"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if field.get("pattern") == values.PERCENT:
        return "share"
    known = {values.PERCENT: "share or size", values.SIZE: "size", values.DURATION: "duration"}
    known[values.MIN_RATE] = "rate over duration"
    patterns = [choice.get("pattern") for choice in (field, *field.get("anyOf", ()))]
    named = [known[pattern] for pattern in patterns if pattern in known]
    if named:
        return named[0]
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if field["type"] == "array":
        return f"list of {names[field['items']['type']]}" + "".join(_bounds(field))
    return names[field["type"]] + "".join(_bounds(field))


def _bounds(field: JsonSchema) -> Iterator[str]:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "minItems": "at least {}",
        "maxItems": "at most {}",
        "maxLength": "at most {} characters",
    }
    found = [text.format(field[key]) for key, text in words.items() if key in field]
    if found:
        yield ", " + " ".join(found)


def _not_yet(section: type[Section]) -> str:
    if not section.not_yet or section is sections.Model:
        return ""
    names = ", ".join(f"`{name}`" for name in sorted(section.not_yet))
    return f"\nNot in this version, and refused so: {names}.\n"
