"""outdated, update: what a hub has that is newer, and taking it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import HUB, REFUSED, Client, query_of
from offgridd.cli.files import follow, shown_error
from offgridd.cli.terminal import complain, say
from offgridd.core.hub import HUB_TROUBLE
from offgridd.core.sizes import show_size

NEWER = 6


def add_to(commands: Any) -> None:
    one = commands.add_parser("outdated", help="what the hub has that is newer; 6 where there is something")
    one.add_argument("model", nargs="?")
    one.add_argument("--known", action="store_true", help="what was seen at the last look; asks nobody")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=outdated)
    one = commands.add_parser("update", help="fetch what is newer, verify it, and then serve it")
    one.add_argument("models", nargs="*", metavar="MODEL", help="all that are outdated, where none is named")
    one.add_argument("--json", action="store_true", help="the job, when it is over")
    one.set_defaults(run=update)


def outdated(client: Client, args: argparse.Namespace) -> int:
    asked = {"model": args.model, "known": "true" if args.known else None}
    models = client.json("GET", f"/v1/outdated?{query_of(asked)}")["models"]
    say(*([json.dumps(models, indent=2)] if args.json else _table(models)))
    if any(m["outdated"] for m in models):
        return NEWER
    return HUB if any(m["error"] for m in models) else 0


def _table(models: list[dict[str, Any]]) -> list[str]:
    if not models:
        return ["no model of a hub is declared"]
    rows = [("MODEL", "PINNED", "HUB", "NOTE"), *map(_cells, models)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(model: dict[str, Any]) -> tuple[str, ...]:
    pinned, newer = model["pinned"], model["newer"]
    return (
        model["model"],
        pinned["commit"][:12] if pinned else "-",
        model["head"][:12] if model["head"] else "-",
        f"{newer['files'][0]} is another file, {show_size(newer['size'])}" if newer else _why(model),
    )


def _why(model: dict[str, Any]) -> str:
    if model["error"]:
        return f"not known: {model['error']['message']}"
    if model["fixed"]:
        return str(model["fixed"])
    if model["outdated"] is None:
        return "not looked at yet" if model["pinned"] else "not found yet"
    return "the same files" if model["head"] != model["pinned"]["commit"] else "up to date"


def update(client: Client, args: argparse.Namespace) -> int:
    """1 where one of them could not be had (5: for the network); it stays what it was."""
    body = json.dumps({"models": args.models or None}).encode()
    job = follow(client, client.json("POST", "/v1/update", body))
    if args.json:
        say(json.dumps(job, indent=2))
    if job["state"] != "done":
        complain(shown_error(job))
        return REFUSED
    done = job["result"]
    if not args.json:
        lines = [f"updated {name}" for name in done["updated"]]
        lines += [f"{name} is measured first: offgrid describe {name}" for name in done["measured"]]
        lines += [f"{name} is up to date" for name in done["current"]]
        say(*(lines or ([] if done["failed"] else ["no model of a hub is declared"])))
    for failed in done["failed"]:
        complain(f"{failed['code']}: {failed['message']}")
    codes = {f["code"] for f in done["failed"]}
    return (HUB if codes <= HUB_TROUBLE else REFUSED) if codes else 0
