"""Messages and tools of a request -> what a template is given, in the way that it can take. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from offgridd.engine.tools.shape import Dialect, Json, Shape
from offgridd.engine.tools.write import Made, written
from offgridd.engine.wire import Message, Tool

_EXAMPLE = Made("call00001", "NAME", '{"KEY": "VALUE"}')


def composed(messages: Sequence[Message], tools: Sequence[Tool], dialect: Dialect) -> list[Json]:
    """The messages as the template takes them. Raises ValueError where arguments of a call are no JSON object."""
    shape = dialect.shape
    made = list(messages)
    if tools and not dialect.native and shape is not None:
        made = _told(made, instructions(tools, shape), system=dialect.system)
    if shape is not None and not shape.parallel:
        made = list(_one_by_one(made))
    if shape is None or not dialect.writes:
        made = list(_as_text(made, shape))
    return [_json(one, strings=shape is not None and shape.strings) for one in made]


def instructions(tools: Sequence[Tool], shape: Shape) -> str:
    """Our own words for a model whose template has none. They are documented: docs/tools.md."""
    lines = "\n".join(tool.text for tool in tools)
    several = "Several calls may follow each other. " if shape.parallel else ""
    return (
        "You can call functions. To call one, answer with this and nothing else, where NAME is its name and the"
        f" arguments match its parameters:\n{written(shape, [_EXAMPLE])}\n{several}What a function returns is then told"
        f" between <tool_response> and </tool_response>. These are the functions, a line each:\n{lines}"
    )


def _told(messages: list[Message], text: str, *, system: bool) -> list[Message]:
    """With the text in front: in the system message, or in the first one where the template takes none."""
    if messages and messages[0].role == "system":
        first, rest = messages[0], messages[1:]
        return [_with(first, f"{first.content}\n\n{text}" if first.content else text), *rest]
    if system:
        return [Message("system", text), *messages]
    return [_with(messages[0], f"{text}\n\n{messages[0].content}"), *messages[1:]] if messages else []


def _with(message: Message, content: str) -> Message:
    return Message(message.role, content, message.name, message.calls, message.call_id, message.reasoning)


def _one_by_one(messages: Iterable[Message]) -> Iterable[Message]:
    """Each call in a message of its own, and its result behind it."""
    waiting: list[Message] = []
    for message in messages:
        if message.role == "tool" and waiting:
            ours = next((one for one in waiting if one.calls[0].id == message.call_id), waiting[0])
            waiting.remove(ours)
            yield from (ours, message)
            continue
        yield from waiting
        waiting = []
        if len(message.calls) < 2:
            yield message
            continue
        waiting = [
            Message(
                "assistant", message.content if i == 0 else "", None, (call,), None, message.reasoning if i == 0 else ""
            )
            for i, call in enumerate(message.calls)
        ]
    yield from waiting


def _as_text(messages: Iterable[Message], shape: Shape | None) -> Iterable[Message]:
    """Calls as text of the answer that made them, and results as words of the user."""
    results: list[str] = []
    for message in messages:
        if message.role == "tool":
            results.append(f"<tool_response>\n{message.content}\n</tool_response>")
            continue
        if results:
            yield Message("user", "\n".join(results))
            results = []
        if message.calls and shape is not None:
            text = written(shape, [Made(call.id, call.name, call.arguments) for call in message.calls])
            yield Message("assistant", message.content + text, reasoning=message.reasoning)
        else:
            yield message
    if results:
        yield Message("user", "\n".join(results))


def _json(message: Message, *, strings: bool) -> Json:
    made: Json = {"role": message.role, "content": message.content}
    if message.name is not None:
        made["name"] = message.name
    if message.call_id is not None:
        made["tool_call_id"] = message.call_id
    if message.reasoning:
        made |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), message.reasoning)
    if message.calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments, strings)},
            }
            for call in message.calls
        ]
    return made


def _arguments(text: str, strings: bool) -> object:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the arguments are no object")
    return text if strings else found
