"""Has a model measured, and tells how far that is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from offgridd.cli import quality
from offgridd.cli.client import REFUSED, Client, CliError
from offgridd.cli.terminal import is_terminal, say


def measure(client: Client, model: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The record, once it is there. Raises CliError."""
    body = json.dumps({"model": model, **asked}).encode()
    alive = is_terminal(sys.stderr)
    with closing(client.events("POST", "/v1/benchmark", body)) as events:
        try:
            for item in events:
                if "result" in item:
                    found: dict[str, Any] = item["result"]
                    return found
                if "error" in item:
                    raise CliError(REFUSED, str(item["error"]["message"]))
                if alive:
                    _clear()
                    say(f"{model}: {_stage(item)}", end="", file=sys.stderr)
        finally:
            if alive:
                _clear()
    raise CliError(REFUSED, "cannot measure: the daemon said no more")


def _clear() -> None:
    """The line, which then begins anew."""
    print(end="\r\x1b[K", file=sys.stderr, flush=True)


def _stage(item: dict[str, Any]) -> str:
    if (probing := quality.stage(item)) is not None:
        return probing
    if "done" in item:
        return f"{item['done']} of {item['of']} runs"
    return f"disturbed, {item['disturbed']}; again" if "disturbed" in item else "waits while requests go first"
