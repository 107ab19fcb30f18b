"""status, plan, check, schema, reload, reconcile, logs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from offgridd.cli import compared, observe
from offgridd.cli.client import REFUSED, Client, CliError, in_address
from offgridd.cli.reading import read_files
from offgridd.cli.terminal import is_terminal, say
from offgridd.core.sizes import show_size

CHANGES = 6


def status(client: Client, args: argparse.Namespace) -> int:
    if args.watch:
        return _watch(client)
    found = client.json("GET", "/v1/status")
    say(*([json.dumps(found, indent=2)] if args.json else _table(found)))
    return 0


def _watch(client: Client) -> int:
    """Prints the table at once and after each change of a condition, until Ctrl-C or the daemon's end."""
    clear = "\x1b[H\x1b[2J" if is_terminal(sys.stdout) else ""
    shown: list[str] = []
    try:
        for _ in client.changes():
            table = _table(client.json("GET", "/v1/status"))
            if table != shown:
                print(clear, end="")
                say(*table, *([] if clear else [""]))
                shown = table
    except KeyboardInterrupt:
        pass
    return 0


def _table(found: dict[str, Any]) -> list[str]:
    """Lines: the whole, then the models in columns, and under each that is not Ready the reason's message."""
    pending = "" if found["generation"] == found["observedGeneration"] else f", observed {found['observedGeneration']}"
    lines = [f"generation {found['generation']}{pending}"]
    lines += [_condition(c) for c in found["conditions"]]
    unneeded = found["store"]["unneeded"]
    if unneeded["count"]:
        lines.append(f"  {show_size(unneeded['bytes'])} of the store are not needed any more: offgrid gc shows them")
    models = found["models"]
    if not models:
        return [*lines, "no models are declared"]
    rows = [("MODEL", "READY", "REASON", "CONTEXT", "THREADS", "RUNNING", "PID"), *map(_cells, models)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    texts = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", texts[0]]
    for model, text in zip(models, texts[1:], strict=True):
        ready = _ready(model)
        lines += [text, f"    {ready['message']}"] if ready["status"] != "True" and ready["message"] else [text]
    return lines


def _condition(found: dict[str, str]) -> str:
    why = f": {found['message']}" if found["message"] else ""
    return f"  {found['type']:<14} {found['status']:<7} {found['reason']}{why}"


def _ready(model: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = next(c for c in model["conditions"] if c["type"] == "Ready")
    return found


def _cells(model: dict[str, Any]) -> tuple[str, ...]:
    ready, effective, serving = _ready(model), model["effective"] or {}, model["serving"] or {}
    threads = serving.get("threads") or effective.get("threads", "-")
    running = str(serving.get("running", 0)) + (f" of {total}" if (total := _requests(serving)) else "")
    pids = ",".join(str(w["pid"]) for w in model["workers"]) or "-"
    context = str(effective.get("context", "-"))
    return model["name"], ready["status"], ready["reason"], context, str(threads), running, pids


def _requests(serving: dict[str, Any]) -> int:
    """All that are open, where some wait."""
    open_ones: int = serving.get("waiting", 0) + serving.get("parked", 0)
    return open_ones + int(serving["running"]) if open_ones else 0


def plan(client: Client, args: argparse.Namespace) -> int:
    if args.against is not None:
        return compared.plan_against(args.file, args.against, args.output)
    files = [{"name": name, "text": _text(name, text)} for name, text in read_files(args.file)]
    made = client.json("POST", "/v1/plan", json.dumps({"files": files}).encode())
    if not made["valid"]:
        say(*made["errors"], file=sys.stderr)
        return REFUSED
    for action in made["actions"]:
        say(f"{action['action']:<8} {action['model'] or ''}".rstrip())
    if not made["changes"]:  # what is held back already is none
        say("no changes")
    return CHANGES if made["changes"] else 0


def _text(name: str, data: bytes) -> str:
    """Raises CliError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CliError(REFUSED, f"cannot plan {name}: it is not UTF-8; offgrid check says where") from None


def check(_: Client, args: argparse.Namespace) -> int:
    from offgridd.core.errors import ManifestError
    from offgridd.manifest import accept_fetched, accept_files

    try:
        found = (accept_fetched if args.fetched else accept_files)(read_files(args.file))
    except ManifestError as error:
        say(*error.problems, file=sys.stderr)
        return REFUSED
    git = "" if args.fetched or found.desired.git is None else f"; the models stand in {found.desired.git.url}"
    say(f"{args.file}: {len(found.desired.models)} models, valid{git}")
    return 0


def schema(_: Client, __: argparse.Namespace) -> int:
    from offgridd.manifest import schema as make

    print(json.dumps(make(), indent=2))
    return 0


def reload(client: Client, args: argparse.Namespace) -> int:
    seen = client.json("POST", "/v1/reload?wait=1" + ("&rewind=1" if args.allow_rewind else ""))
    say(*seen["notes"], file=sys.stderr)
    if not seen["accepted"]:
        say(*seen["errors"], file=sys.stderr)
        return REFUSED
    print(f"generation {seen['generation']}" + ("" if seen["changed"] else " (no change)"))
    return 0


def reconcile(client: Client, args: argparse.Namespace) -> int:
    client.json("POST", "/v1/reconcile" + (f"?model={in_address(args.model)}" if args.model else ""))
    if args.wait:
        return observe.until(client, args.model, ("Ready", "True"), args.timeout)
    return 0


def logs(client: Client, args: argparse.Namespace) -> int:
    text = client.json("GET", f"/v1/logs?model={in_address(args.model)}")["text"]
    if text:
        say(text)
    return 0
