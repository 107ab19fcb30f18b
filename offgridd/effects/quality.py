"""Probes how well a model answers: the perplexity of a text that comes with the package, and a few questions.

Chunk by chunk and question by question, each beside no request: what a request breaks off is begun anew after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread

from offgridd.core.errors import RequestRefused
from offgridd.core.quality import N_CTX, Sums, perplexity
from offgridd.core.questions import QUESTIONS, Answer, Question, digest, is_right
from offgridd.effects.traffic import Traffic
from offgridd.engine import wire

TEXT: Final = Path(__file__).with_name("quality.txt")
LOOK: Final = 0.25  # seconds between two looks at whether requests go first
QUIET: Final = 3600.0  # seconds between two looks at an answer: whether its worker hangs is for others to say
CLIENT: Final = "quality"

Tell = Callable[[dict[str, Any]], None]
BRIEFLY: Final = '{"enable_thinking": false}'  # there are few tokens for an answer
T = TypeVar("T")


class WorkerPort(Protocol):
    async def measure(self, asked: wire.Bench | wire.Score) -> wire.Measured | wire.Scored | wire.Refused: ...
    def stream(self, chats: Sequence[wire.Chat], quiet: float) -> AsyncGenerator[Any, None]: ...


class Subject(Protocol):
    """`load`: what it runs with, `template` being why it has none of use.

    `worker` gives the one that serves now; it raises RequestRefused.
    """

    @property
    def name(self) -> str: ...
    @property
    def load(self) -> Mapping[str, Any]: ...
    @property
    def worker(self) -> Callable[[], Awaitable[WorkerPort]]: ...
    @property
    def idle(self) -> float: ...
    @property
    def patience(self) -> float: ...


class Quality:
    def __init__(self, traffic: Traffic, next_request: Callable[[], int]) -> None:
        self._traffic, self._next = traffic, next_request

    async def probe(self, subject: Subject, tell: Tell) -> dict[str, Any]:
        """What a record says under `quality`: docs/benchmarks.md. Raises RequestRefused."""
        text = await anyio.to_thread.run_sync(bundled)
        found = await self._perplexity(subject, text, tell)
        return {"text_sha256": hashlib.sha256(text.encode()).hexdigest(), **found, **await self._asked(subject, tell)}

    async def _perplexity(self, subject: Subject, text: str, tell: Tell) -> dict[str, Any]:
        sums, chunk, chunks, sha256 = Sums(0, 0.0, 0.0), 0, 1, ""
        while chunk < chunks:
            scored = await self._patiently(subject, tell, partial(self._score, text=text, chunk=chunk))
            if isinstance(scored, wire.Refused):
                return _no_perplexity(scored.message)
            sums += Sums(scored.tokens, scored.sum, scored.squares)
            chunk, chunks, sha256 = chunk + 1, scored.chunks, scored.tokens_sha256
            tell({"read": chunk, "of": chunks})
        found = perplexity(sums)
        if found is None:
            return _no_perplexity("what the model says of the text are no numbers")
        return {
            "perplexity": found[0], "error": found[1], "tokens": sums.tokens, "n_ctx": N_CTX, "tokens_sha256": sha256,
            "not_measured": None,
        }  # fmt: skip

    async def _asked(self, subject: Subject, tell: Tell) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        if (why := subject.load.get("template")) is not None:
            return _answered(answers, why=str(why))
        for question in QUESTIONS:
            found = await self._patiently(subject, tell, partial(self._ask, question=question))
            if isinstance(found, wire.Refused) and question.tools:
                return _answered([one for one in answers if "calls" not in one], no_tools=found.message)
            if isinstance(found, wire.Refused):
                return _answered([], why=found.message)
            answers.append(_answer(question, found))
            tell({"asked": len(answers), "of": len(QUESTIONS)})
        return _answered(answers)

    async def _patiently(
        self, subject: Subject, tell: Tell, attempt: Callable[[WorkerPort], Awaitable[T | wire.Refused | None]]
    ) -> T | wire.Refused:
        """What comes of it once no request goes first, or why this model can not. Raises RequestRefused."""
        until = anyio.current_time() + subject.patience
        while True:
            with anyio.move_on_after(until - anyio.current_time()):
                await self._traffic.quiet(subject.idle)
            worker = await subject.worker()
            found = await self._traffic.beside_none(partial(attempt, worker))
            if isinstance(found, wire.Refused) and found.status != 400 and found.code != "busy":
                raise RequestRefused(found.status, found.code, found.message, retry_after=found.retry_after)
            if found is not None and not (isinstance(found, wire.Refused) and found.code == "busy"):
                return found
            if anyio.current_time() > until:
                text = (
                    f"cannot measure {subject.name}: there were requests for {subject.patience:.0f} s; try again later"
                )
                raise RequestRefused(409, "busy", text, retry_after=60)
            tell({"waits": "requests go first"})
            await anyio.sleep(LOOK)

    async def _score(self, worker: WorkerPort, text: str, chunk: int) -> wire.Scored | wire.Refused | None:
        """None: a request goes first."""
        number = self._next()
        found = await worker.measure(wire.Score(number, text, N_CTX, chunk))
        assert not isinstance(found, wire.Measured)
        if isinstance(found, wire.Refused) or not found.why:
            return found
        if found.why == "out_of_cells":
            return wire.Refused(number, 400, found.why, "cannot measure the perplexity: the model's cells ran out")
        return None

    async def _ask(self, worker: WorkerPort, question: Question) -> Answer | wire.Refused | None:
        """The likeliest answer. None: a request goes first."""
        messages = tuple(wire.Message(("user", "assistant")[i % 2], text) for i, text in enumerate(question.turns))
        likeliest = wire.SamplingParams(temperature=0.0)
        chat = wire.Chat(
            self._next(), CLIENT, messages, likeliest, question.most, clip=True, probe=True, template_args=BRIEFLY,
            tools=tuple(wire.Tool.declared(tool.function) for tool in question.tools),
        )  # fmt: skip
        text, calls = "", list[wire.CallPart]()
        async with aclosing(worker.stream([chat], QUIET)) as frames:
            async for frame in frames:
                if isinstance(frame, wire.Refused):
                    return frame
                if isinstance(frame, wire.Tokens):
                    text += "".join(item.text for item in frame.items)
                    calls += [part for item in frame.items for part in item.calls]
        return Answer(text, tuple(wire.joined(calls)))


@cache
def bundled() -> str:
    """The text, as llama-perplexity reads the same file: without the line's end behind it."""
    return TEXT.read_text("utf-8").removesuffix("\n")


def _no_perplexity(why: str) -> dict[str, Any]:
    return {
        "perplexity": None, "error": None, "tokens": 0, "n_ctx": N_CTX, "tokens_sha256": None, "not_measured": why,
    }  # fmt: skip


def _answer(question: Question, found: Answer) -> dict[str, Any]:
    said = {"question": question.name, "answer": found.text, "right": is_right(question, found)}
    calls = [{"name": name, "arguments": arguments} for name, arguments in found.calls]
    return {**said, "calls": calls} if question.tools else said


def _answered(answers: list[dict[str, Any]], *, why: str | None = None, no_tools: str | None = None) -> dict[str, Any]:
    """`why` none were asked for; `no_tools`: why only those without tools."""
    asked = list(zip(answers, QUESTIONS, strict=False))
    called = [one["right"] for one, question in asked if question.tools]
    objects = [one["right"] for one, question in asked if question.keys]
    short = [one["right"] for one, question in asked if not question.tools and not question.keys]
    return {
        "right": sum(short), "asked": len(short), "json_valid": sum(objects), "json_asked": len(objects),
        "not_asked": why, "tools_right": sum(called), "tools_asked": len(called), "tools_not_asked": no_tools,
        "questions_sha256": digest(), "answers": answers,
    }  # fmt: skip
