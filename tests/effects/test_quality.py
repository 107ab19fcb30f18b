"""Probes of quality: a part that a request broke off is done anew, and what can not be measured says so."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from offgridd.api.tools import Tools, parse_tools
from offgridd.core.errors import RequestRefused
from offgridd.core.questions import QUESTIONS, Question
from offgridd.effects.quality import Quality, bundled
from offgridd.effects.traffic import Traffic
from offgridd.engine import wire

CHUNKS = 3
TOOLS = sum(bool(one.tools) for one in QUESTIONS)
OBJECTS = sum(bool(one.keys) for one in QUESTIONS)
SHORT = sum(bool(one.right) and not one.tools for one in QUESTIONS)


@dataclass
class Answering:
    """A worker that finds each token as likely as one in twenty, and knows the short answers and the calls alone.

    `hangs` has the number of a call that goes on until somebody takes it back; `refusal` is what it answers instead;
    `no_tools`: to what has `tools` of these names.
    """

    hangs: int = -1
    refusal: wire.Refused | None = None
    no_tools: tuple[str, ...] = ()
    calls: int = 0
    chunks: list[int] = field(default_factory=list)
    hung: anyio.Event = field(default_factory=anyio.Event)

    async def _call(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.hangs:
            self.hung.set()
            await anyio.sleep_forever()

    async def measure(self, asked: wire.Bench | wire.Score) -> wire.Scored | wire.Refused:
        assert isinstance(asked, wire.Score)
        assert asked.text == bundled()
        await self._call()
        if self.refusal is not None:
            return self.refusal
        self.chunks.append(asked.chunk)
        one = math.log(20)
        return wire.Scored(asked.id, 255, 255 * one, 255 * one * one, CHUNKS, "v")

    async def stream(self, chats: Sequence[wire.Chat], quiet: float) -> AsyncGenerator[Any, None]:
        (chat,) = chats
        assert (chat.probe, chat.sampling.temperature) == (True, 0)
        await self._call()
        asked = next(one for one in QUESTIONS if one.text == chat.messages[-1].content)
        assert (chat.tools, chat.choice, chat.only) == requested(asked)
        if set(self.no_tools) & {tool.name for tool in chat.tools}:
            yield wire.Refused(chat.id, 400, "template_error", "no tools here")
            return
        yield wire.Admitted(chat.id, 9)
        for item in said(chat.id, asked):
            yield wire.Tokens((item,))
        yield wire.Finish(chat.id, "stop", 9, 5)


def requested(question: Question) -> tuple[tuple[wire.Tool, ...], str, str]:
    """What a request with these tools has a worker asked."""
    declared = [{"type": "function", "function": tool.function} for tool in question.tools]
    found = parse_tools({"tools": declared, "tool_choice": "auto"}) if declared else Tools()
    return found.tools, found.choice, found.only


def said(request: int, question: Question) -> list[wire.Item]:
    """In pieces, a call's with its name first."""
    if question.call is None:
        return [wire.Item(request, letter) for letter in (question.right[0] if question.right else "{}")]
    arguments = json.dumps({key: may[0] for key, may in question.call.arguments.items()})
    parts = [wire.CallPart(0, question.call.name, ""), *(wire.CallPart(0, "", letter) for letter in arguments)]
    return [wire.Item(request, "I see. "), *(wire.Item(request, "", calls=(part,)) for part in parts)]


@dataclass(frozen=True)
class Subject:
    port: Answering
    load: dict[str, Any] = field(default_factory=dict)
    name: str = "m"
    idle: float = 0.0
    patience: float = 60.0

    @property
    def worker(self) -> Callable[[], Awaitable[Answering]]:
        async def serving() -> Answering:
            return self.port

        return serving


def quality(traffic: Traffic) -> Quality:
    numbers = iter(range(1, 1000))
    return Quality(traffic, lambda: next(numbers))


@pytest.mark.parametrize("hangs", [-1, 0, 2, 5, 18, 22])
async def test_it_is_the_same_whatever_a_request_breaks_off(hangs: int) -> None:
    port, traffic, told = Answering(hangs), Traffic(), list[dict[str, Any]]()

    async def disturb() -> None:
        await port.hung.wait()
        traffic.add(1)
        while not any("waits" in one for one in told):
            await anyio.lowlevel.checkpoint()
        assert port.calls == hangs + 1, "nothing is measured beside a request"
        traffic.add(-1)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            if hangs >= 0:
                group.start_soon(disturb)
            found = await quality(traffic).probe(Subject(port), told.append)
    assert found["perplexity"] == pytest.approx(20)
    assert found["error"] == pytest.approx(0, abs=1e-5)
    assert (found["tokens"], port.chunks) == (3 * 255, [0, 1, 2])
    assert (found["right"], found["asked"]) == (SHORT, SHORT)
    assert (found["json_valid"], found["json_asked"]) == (0, OBJECTS)
    assert (found["tools_right"], found["tools_asked"], found["tools_not_asked"]) == (TOOLS, TOOLS, None)
    assert len(QUESTIONS) == SHORT + OBJECTS + TOOLS
    timer = next(one for one in found["answers"] if one["question"] == "timer")
    assert (timer["answer"], timer["right"]) == ("I see. ", True)
    assert timer["calls"] == [{"name": "set_timer", "arguments": '{"minutes": 20}'}]
    assert port.calls == 3 + len(QUESTIONS) + (hangs >= 0)
    assert [one["read"] for one in told if "read" in one] == [1, 2, 3]


async def test_what_can_not_be_measured_says_why() -> None:
    refusal = wire.Refused(1, 400, "context_length_exceeded", "too small")
    port = Answering(refusal=refusal)
    found = await quality(Traffic()).probe(Subject(port, {"template": "it has none"}), lambda _: None)
    assert (found["perplexity"], found["error"], found["not_measured"]) == (None, None, "too small")
    assert (found["asked"], found["json_asked"], found["not_asked"]) == (0, 0, "it has none")
    assert (found["tools_right"], found["tools_asked"], found["answers"]) == (0, 0, [])


@pytest.mark.parametrize("tool", sorted({tool.name for one in QUESTIONS for tool in one.tools}))
async def test_what_can_not_be_told_of_tools_was_asked_the_others(tool: str) -> None:
    """Whichever question it is that is refused."""
    found = await quality(Traffic()).probe(Subject(Answering(no_tools=(tool,))), lambda _: None)
    assert (found["right"], found["asked"], found["json_asked"], found["not_asked"]) == (SHORT, SHORT, OBJECTS, None)
    assert (found["tools_right"], found["tools_asked"], found["tools_not_asked"]) == (0, 0, "no tools here")
    assert [one["question"] for one in found["answers"]] == [one.name for one in QUESTIONS if not one.tools]


async def test_a_worker_that_is_gone_ends_it() -> None:
    port = Answering(refusal=wire.Refused(1, 503, "worker_crashed", "gone"))
    with pytest.raises(RequestRefused) as caught:
        await quality(Traffic()).probe(Subject(port), lambda _: None)
    assert (caught.value.status, caught.value.code) == (503, "worker_crashed")


async def test_requests_without_end_end_it() -> None:
    traffic = Traffic()
    traffic.add(1)
    with anyio.fail_after(20), pytest.raises(RequestRefused) as caught:
        await quality(traffic).probe(Subject(Answering(), patience=0.05), lambda _: None)
    assert (caught.value.status, caught.value.code) == (409, "busy")


def test_the_text_is_a_few_thousand_words_and_the_same_everywhere() -> None:
    text = bundled()
    assert 2000 < len(text.split()) < 5000
    assert text == text.strip()
    assert text.isascii()
    assert "\r" not in text
