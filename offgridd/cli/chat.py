"""run: chat in the terminal. The history is kept for the session; Ctrl-C stops the answer, not the program."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from contextlib import closing

from offgridd.cli.client import REFUSED, Client, CliError
from offgridd.cli.terminal import complain, is_terminal, say, say_dimmed


def run(client: Client, args: argparse.Namespace) -> int:
    if not is_terminal(sys.stdin):
        return _answer_piped(client, args.model)
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() its line editing and history
    with client.held():
        return _converse(client, args.model)


def _converse(client: Client, model: str) -> int:
    print("exit ends, clear forgets the conversation", file=sys.stderr)
    history: list[dict[str, str]] = []
    while True:
        try:
            line = input(">>> ").strip()
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        if line in ("exit", "clear"):
            if line == "exit":
                return 0
            history.clear()
        elif line:
            history.append({"role": "user", "content": line})
            text = _ask_on_terminal(client, model, history)
            if not text:
                history.pop()  # nothing was said: the next question stands where this one stood
            else:
                history.append({"role": "assistant", "content": text})


def _answer_piped(client: Client, model: str) -> int:
    try:
        question = sys.stdin.buffer.read().decode() if sys.stdin else ""  # closed: nothing
    except UnicodeDecodeError:
        raise CliError(REFUSED, "cannot ask that: the input is not UTF-8") from None
    if not question.strip():
        raise CliError(REFUSED, "cannot ask nothing: the input is empty")
    _answer(client, model, [{"role": "user", "content": question}])
    return 0


def _ask_on_terminal(client: Client, model: str, history: list[dict[str, str]]) -> str | None:
    try:
        return _answer(client, model, history)
    except CliError as error:
        complain(error)
        return None


def _answer(client: Client, model: str, messages: list[dict[str, str]]) -> str:
    """Prints the answer as it comes, reasoning dimmed and only on a terminal; what came before Ctrl-C counts as it."""
    body = json.dumps({"model": model, "messages": messages, "stream": True}).encode()
    parts, thinking = list[str](), False
    try:
        with closing(client.events("POST", "/v1/chat/completions", body)) as events:  # closed: the slot is free
            for event in events:
                if "error" in event:
                    raise CliError(REFUSED, str(event["error"]["message"]))
                delta = event["choices"][0]["delta"] if event["choices"] else {}
                thought, text = delta.get("reasoning_content") or "", delta.get("content") or ""
                if thought and is_terminal(sys.stdout):
                    thinking = True
                    say_dimmed(thought)
                if text and thinking:
                    thinking = False
                    print("\n")
                parts.append(text)
                say(text, end="")
    except KeyboardInterrupt:
        if not is_terminal(sys.stdin):
            raise  # a script must not take half an answer for a whole one
    finally:
        if parts:
            print()
    return "".join(parts)
