"""Every template that llama.cpp knows: how it writes calls is found out, and what it writes is read back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from support.dialects import read, studied_here
from support.templates import Rendering, templates

from offgridd.engine.render import Renderer
from offgridd.engine.tools.dialect import studied
from offgridd.engine.tools.pages import Pages
from offgridd.engine.tools.shape import DEFAULT, Dialect
from offgridd.engine.tools.write import Made, written

Call = tuple[str, dict[str, Any]]
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "note": {"type": "string"},
            "options": {"type": "object", "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
            "flag": {"type": "boolean"}, "x": {"type": "number"},
        },
    },
    "add": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}},
    "now": {"type": "object", "properties": {}},
}  # fmt: skip
CASES: list[list[Call]] = [
    [("get_weather", {"city": 'Zürich "x" \\ y', "days": 3})],
    [("add", {"a": 1, "b": 2.5}), ("get_weather", {"city": "a\nb", "flag": True})],
    [("now", {})],
    [("now", {}), ("add", {"a": -1000.0, "b": 0}), ("now", {})],
    [("get_weather", {"city": "12", "days": -4, "note": " two  spaces ", "flag": False, "x": 1.5})],
    [("get_weather", {"options": {"k": [1, "x", {"y": True}]}, "list": ["a", 2]})],
    [("get_weather", {"city": ""})],
    [("get_weather", {"city": "true", "note": "{}"})],
]
# Of LFM2.5, text stands in quotes that it does not escape: with a backslash it can not be read by anybody.
UNREADABLE = {("LFM2.5-8B-A1B", 0)}


def tools() -> list[dict[str, Any]]:
    """Some templates want a description of everything."""
    return [
        {"type": "function", "function": {"name": name, "description": "it does", "parameters": {
            **schema, "required": [],
            "properties": {key: {**one, "description": "it is"} for key, one in schema["properties"].items()},
        }}}
        for name, schema in SCHEMAS.items()
    ]  # fmt: skip


def made_of(text: str, found: Dialect, calls: Sequence[Call]) -> str:
    """What the template writes, or where it writes no calls we."""
    shape = found.shape
    assert shape is not None
    if not found.writes:
        return written(shape, [Made(f"callid{i:03}", name, json.dumps(one)) for i, (name, one) in enumerate(calls)])
    drawn = Rendering(text)
    given = tools() if found.native else []
    pages = Pages(lambda messages, answer: drawn.render(messages, given, answer=answer), shape.strings)
    made = pages.of(*calls)
    return made.strip().removeprefix(shape.open.strip()) if shape.prompted else made


def parsed(found: Dialect, text: str, size: Callable[[], int]) -> tuple[str, list[Call], str]:
    """Content, calls and reasoning of an answer that comes in pieces."""
    pieces, at = list[str](), 0
    while at < len(text):
        step = size()
        pieces.append(text[at : at + step])
        at += step
    content, calls, reasoning = read(found, pieces, SCHEMAS)
    return content, [(name, json.loads(arguments)) for name, arguments in calls], reasoning


def thought(found: Dialect) -> str:
    """What ends reasoning that the template has begun."""
    return f"hm{found.thinking.close}" if found.thinking is not None and found.thinking.started else ""


def test_what_a_template_writes_is_read_back_whole_and_in_pieces() -> None:
    count, rnd = 0, random.Random(7)
    for name, text in templates():
        found = studied_here(text)
        assert found.shape is not None, name
        if found.channels:
            continue  # they write what a model does not: test_channels
        for number, case in enumerate(CASES):
            if (name, number) in UNREADABLE or (len(case) > 1 and not found.shape.parallel):
                continue
            answer = thought(found) + made_of(text, found, case)
            whole = parsed(found, answer, lambda answer=answer: len(answer))  # type: ignore[misc]
            assert whole[1] == case, (name, answer)
            assert not whole[0].strip(), (name, answer)
            for pieces in (lambda: 1, lambda: rnd.randint(1, 9)):
                assert parsed(found, answer, pieces) == whole, (name, answer)
            count += 1
    assert count > 400


# Template: kind, whether it tells of tools itself, writes calls, takes several; what begins and ends reasoning.
KNOWN: dict[str, tuple[str, bool, bool, bool, tuple[str, str] | None]] = {
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": ("object", True, True, True, None),
    "Qwen-Qwen2.5-7B-Instruct": ("object", True, True, True, None),
    "Qwen-Qwen3-0.6B": ("object", True, True, True, ("<think>", "</think>")),
    "Qwen3-Coder": ("tagged", True, True, True, None),
    "meta-llama-Llama-3.1-8B-Instruct": ("object", True, True, False, None),
    "mistralai-Mistral-Nemo-Instruct-2407": ("object", True, True, True, None),
    "Mistral-Small-3.2-24B-Instruct-2506": ("named", True, True, True, None),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("named", True, True, True, ("[THINK]", "[/THINK]")),
    "ibm-granite-granite-3.3-2B-Instruct": ("object", True, False, True, ("<think>", "</think>")),
    "ibm-granite-granite-4.0": ("object", True, True, True, None),
    "deepseek-ai-DeepSeek-V3.1": ("named", False, True, True, ("<think>", "</think>")),
    "deepseek-ai-DeepSeek-V3.2": ("tagged", True, True, True, ("<think>", "</think>")),
    "llama-cpp-deepseek-r1": ("named", True, True, True, ("<think>", "</think>")),
    "google-gemma-2-2b-it": ("object", False, False, True, None),
    "google-gemma-4-31B-it": ("curly", True, True, True, ("<|channel>thought\n", "<channel|>")),
    "meetkai-functionary-medium-v3.1": ("named", True, True, True, None),
    "meetkai-functionary-medium-v3.2": ("named", True, True, True, None),
    "moonshotai-Kimi-K2": ("named", True, True, True, None),
    "LFM2-8B-A1B": ("python", True, False, True, None),
    "GLM-4.6": ("tagged", True, True, True, ("<think>", "</think>")),
    "microsoft-Phi-3.5-mini-instruct": ("object", False, False, True, None),
}


def test_the_families_are_what_they_are() -> None:
    texts = dict(templates())
    for name, (kind, native, writes, several, thinking) in KNOWN.items():
        found = studied_here(texts[name])
        assert found.shape is not None
        got = (found.shape.kind, found.native, found.writes, found.shape.parallel)
        assert got == (kind, native, writes, several), name
        assert (found.thinking and (found.thinking.open, found.thinking.close)) == thinking, name
    assert all(studied_here(texts[name]).channels for name in ("openai-gpt-oss-120b", "muse-glimmer"))
    assert not studied_here(texts["google-gemma-2-2b-it"]).system
    assert studied_here(texts["microsoft-Phi-3.5-mini-instruct"]).shape == DEFAULT


@pytest.mark.parametrize("name", ["Qwen-Qwen3-0.6B", "openai-gpt-oss-120b", "Qwen3-Coder"])
def test_the_helper_process_tells_the_same(name: str) -> None:
    text = dict(templates())[name]
    renderer = Renderer(text, {"bos_token": "<BOS>", "eos_token": "<EOS>"})
    try:
        assert studied(text, renderer) == studied_here(text)
    finally:
        renderer.close()
