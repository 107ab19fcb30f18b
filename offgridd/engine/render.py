"""The template helper: a process of its own, because a hostile template can loop or allocate without end.

`python -m offgridd.engine.render` reads JSON lines and answers each with one: first the template, then requests. Its
limits are set before any template text is compiled; the deadline is kept by `Renderer`, which kills and replaces it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

MEMORY = 512 << 20  # bytes of address space
MAX_TEMPLATE = 256 << 10  # characters
MAX_OUTPUT = 8 << 20  # characters
RENDER_DEADLINE = 2.0  # seconds for one compile or render
START_DEADLINE = 20.0  # seconds for Python and Jinja to come up on a busy machine


class TemplateError(Exception):
    """The template can not be used for this request; the text is for the client."""


class Renderer:
    """Renders in the helper; starts it when there is none. Use from one thread, which must outlive the helper."""

    def __init__(self, template: str, names: Mapping[str, str]) -> None:
        if len(template) > MAX_TEMPLATE:
            raise TemplateError(
                f"cannot use the chat template: it has {len(template)} characters, more than {MAX_TEMPLATE}"
            )
        self._setup = {"template": template, "names": dict(names)}
        self._child: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Compiles the template. Raises TemplateError."""
        self._ensure()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        *,
        answer: bool = True,
    ) -> str:
        """The prompt's text; `answer`: one is to follow. `variables`: more of them, for the template.

        Raises TemplateError also when it takes too long or too much memory.
        """
        asked = {"messages": messages, "tools": tools, "variables": variables or {}, "answer": answer}
        return self._ask(self._ensure(), asked, RENDER_DEADLINE)

    def close(self) -> None:
        if self._child is not None:
            with self._child as child:  # closes its pipes and waits
                child.kill()
            self._child = None

    def _ensure(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        argv = [sys.executable, "-I", "-m", "offgridd.engine.render", str(os.getpid())]
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={"LC_ALL": "C.UTF-8"})
        self._child = child
        self._read(child, START_DEADLINE)
        self._ask(child, self._setup, RENDER_DEADLINE)
        return child

    def _ask(self, child: subprocess.Popen[bytes], question: Mapping[str, Any], deadline: float) -> str:
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            raise self._dead("it ended") from None
        answer = self._read(child, deadline)
        if "error" in answer:
            raise TemplateError(str(answer["error"]))
        return str(answer.get("text", ""))

    def _read(self, child: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
        assert child.stdout is not None
        until, data = time.monotonic() + deadline, bytearray()
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise self._dead(f"it took longer than {deadline:g} s")
            more = os.read(child.stdout.fileno(), 1 << 16)
            if not more:
                raise self._dead("it took more memory or time than it may")
            data += more
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _dead(self, why: str) -> TemplateError:
        self.close()
        return TemplateError(f"cannot render the chat template: {why}")


def environment() -> Any:
    """Jinja as chat templates know it from Transformers: its filters, functions and tags.

    Not the immutable sandbox: some templates build lists with `append`. Whatever they change is the helper's own copy.
    """
    import datetime

    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """What a template marks as made by the model: it matters in training only."""

        tags = {"generation"}  # noqa: RUF012 - as the base class has it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, default=list, **more)  # list: of what `map` gives

    env = jinja2.sandbox.SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )
    env.filters |= {"tojson": tojson, "from_json": json.loads}
    env.globals["raise_exception"] = refuse
    env.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return env


def rendered(template: Any, question: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What the compiled template makes of a question of `Renderer.render`."""
    tools = question["tools"]
    given = {"tools": tools, "functions": json.dumps(tools, indent=4, ensure_ascii=False)} if tools else {}
    text: str = template.render(
        messages=question["messages"],
        add_generation_prompt=question["answer"],
        **names,
        **given,
        **question["variables"],
    )
    return text


def _serve() -> None:
    import ctypes

    import jinja2

    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the daemon, which lets requests end
    if os.getppid() != int(sys.argv[1]):
        return
    env = environment()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (3600, 3600))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    out.write(b"{}\n")
    out.flush()
    template: jinja2.Template | None = None
    names: dict[str, str] = {}
    for line in sys.stdin.buffer:
        question = json.loads(line)
        try:
            if template is None:
                template, names, text = env.from_string(question["template"]), question["names"], ""
            else:
                text = rendered(template, question, names)
            answer = {"text": text} if len(text) <= MAX_OUTPUT else {"error": "the prompt is too long"}
        except (
            jinja2.TemplateError,
            ArithmeticError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as e:
            answer = {"error": f"cannot render the chat template: {type(e).__name__}: {str(e)[:500]}"}
        except AttributeError as e:
            answer = {"error": f"cannot render the chat template: {str(e)[:500]}"}
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    _serve()
