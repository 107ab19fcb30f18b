"""Tools, calls and their results of a chat request, from its JSON. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from offgridd.api.params import bad
from offgridd.engine.wire import Tool, ToolCall

PARAMETERS = ("tools", "tool_choice", "parallel_tool_calls")
MAX_TOOLS, MAX_TEXT, MAX_ARGS = 128, 256 << 10, 32  # tools; characters of all; variables of the template
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
_RESERVED = ("messages", "tools", "functions", "add_generation_prompt", "bos_token", "eos_token", "raise_exception",
             "strftime_now")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tools:
    """`choice`: auto or required; `only`: the one that has to be called."""

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    only: str = ""
    parallel: bool = True


def parse_tools(body: dict[str, Any]) -> Tools:
    """Raises RequestRefused. Whether a model can keep to a schema is for its worker to say."""
    given, choice = body.get("tools"), body.get("tool_choice")
    if given is not None and (not isinstance(given, list) or len(given) > MAX_TOOLS):
        raise bad("tools", f"it must be a list of at most {MAX_TOOLS} tools")
    tools = tuple(_tool(f"tools[{i}]", one) for i, one in enumerate(given or ()))
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad("tools", "two of them have the same name")
    if sum(len(tool.text) for tool in tools) > MAX_TEXT:
        raise bad("tools", f"they have more than {MAX_TEXT} characters together")
    parallel = body.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise bad("parallel_tool_calls", "it must be true or false")
    kind, only = _choice(choice, names)
    if kind == "none":
        return Tools()
    return Tools(tools, kind, only, parallel is not False)


def _choice(value: object, names: list[str]) -> tuple[str, str]:
    if value in (None, "auto", "none"):
        return str(value or "auto"), ""
    if value != "required" and not isinstance(value, dict):
        raise bad("tool_choice", "it must be none, auto, required, or a tool by its name")
    if not names:
        raise bad("tool_choice", "there are no tools to call")
    if value == "required":
        return "required", ""
    assert isinstance(value, dict)
    inner = value.get("function")
    name = inner.get("name") if isinstance(inner, dict) else None
    if value.get("type") != "function" or name not in names:
        raise bad("tool_choice", "its function must be one of the tools, by name")
    return "required", str(name)


def _tool(where: str, one: object) -> Tool:
    function = one.get("function") if isinstance(one, dict) else None
    if not isinstance(one, dict) or one.get("type") != "function" or not isinstance(function, dict):
        raise bad(where, "its type must be function, and it must have one", "unsupported_tool")
    name, schema, strict = function.get("name"), function.get("parameters"), function.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad(f"{where}.function.name", "it must be 1 to 64 letters, digits, dots, dashes and underscores")
    if schema is not None and (not isinstance(schema, dict) or schema.get("type", "object") != "object"):
        raise bad(f"{where}.function.parameters", "it must be a JSON schema of an object", "invalid_schema")
    if strict is not None and not isinstance(strict, bool):
        raise bad(f"{where}.function.strict", "it must be true or false")
    if not isinstance(function.get("description", ""), str | None):
        raise bad(f"{where}.function.description", "it must be a string")
    shown = {key: value for key, value in function.items() if key != "strict"}
    return Tool.declared({**shown, "parameters": schema or _EMPTY}, strict=strict is True)


def calls_of(where: str, role: object, message: dict[str, Any]) -> tuple[tuple[ToolCall, ...], str | None]:
    """The calls that a message made, and the id of the one whose result it is."""
    given, call_id = message.get("tool_calls"), message.get("tool_call_id")
    if role == "tool" and not isinstance(call_id, str):
        raise bad(f"{where}.tool_call_id", "a message of a tool must have that of its call")
    if role != "tool" and call_id is not None:
        raise bad(f"{where}.tool_call_id", "it goes with messages of tools")
    if given is not None and role != "assistant":
        raise bad(f"{where}.tool_calls", "only the assistant makes calls")
    if given is not None and (not isinstance(given, list) or len(given) > MAX_TOOLS):
        raise bad(f"{where}.tool_calls", f"it must be a list of at most {MAX_TOOLS} calls")
    return tuple(_call(f"{where}.tool_calls[{i}]", one) for i, one in enumerate(given or ())), call_id


def _call(where: str, one: object) -> ToolCall:
    function = one.get("function") if isinstance(one, dict) else None
    if not isinstance(one, dict) or one.get("type", "function") != "function" or not isinstance(function, dict):
        raise bad(where, "its type must be function, and it must have one")
    own, name, arguments = one.get("id"), function.get("name"), function.get("arguments")
    if not isinstance(own, str) or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad(where, "it must have an id, and its function a name")
    try:
        found = json.loads(arguments) if isinstance(arguments, str) else None
    except (ValueError, RecursionError):
        found = None
    if arguments == "":
        arguments, found = "{}", {}
    if not isinstance(found, dict):
        raise bad(f"{where}.function.arguments", "they must be the JSON of an object, as a string")
    return ToolCall(own, name, str(arguments))


def template_args(body: dict[str, Any]) -> str:
    """More variables of the chat template, as JSON: what `chat_template_kwargs` and `reasoning_effort` say."""
    given, effort = body.get("chat_template_kwargs"), body.get("reasoning_effort")
    where = "chat_template_kwargs"
    if given is not None and (not isinstance(given, dict) or len(given) > MAX_ARGS):
        raise bad(where, f"it must be an object of at most {MAX_ARGS} variables of the chat template")
    made = dict(given or {})
    for name, value in made.items():
        if not name.isidentifier() or name in _RESERVED or not isinstance(value, str | int | float | None):
            raise bad(where, "each must be a name that is not taken, with a text, a number, true, false or null")
    if effort is not None:
        if effort not in _EFFORTS:
            raise bad("reasoning_effort", "it must be one of " + ", ".join(_EFFORTS))
        made.setdefault("reasoning_effort", effort)
        made.setdefault("enable_thinking", effort != "none")
    return json.dumps(made, ensure_ascii=False)
