"""load, unload and ps: what is in memory."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import REFUSED, Client
from offgridd.cli.files import follow, shown_error
from offgridd.cli.terminal import complain, say
from offgridd.core.sizes import show_size

Json = dict[str, Any]


def add_to(commands: Any) -> None:
    one = commands.add_parser("load", help="load a model that is loaded on demand, and wait for it")
    one.add_argument("model", metavar="MODEL")
    one.set_defaults(run=change)
    one = commands.add_parser("unload", help="take a model that is loaded on demand out of memory")
    one.add_argument("model", metavar="MODEL")
    one.set_defaults(run=change)
    one = commands.add_parser("ps", help="what is in memory, how much it takes, and when it is unloaded")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=ps)


def change(client: Client, args: argparse.Namespace) -> int:
    job = follow(client, client.json("POST", f"/v1/{args.command}", json.dumps({"model": args.model}).encode()))
    if job["state"] != "done":
        complain(shown_error(job))
        return REFUSED
    say(f"{args.command}ed {job['result']['model']}")
    return 0


def ps(client: Client, args: argparse.Namespace) -> int:
    found = client.json("GET", "/v1/status")["memory"]
    say(*([json.dumps(found, indent=2)] if args.json else _table(found)))
    return 0


def _table(found: Json) -> list[str]:
    ram = found["ram"]
    budget = f" of {show_size(ram['budget'])}" if ram["budget"] is not None else ""
    lines = [f"RAM {show_size(ram['taken'])}{budget}"]
    lines += [f"GPU {gpu['number']} {show_size(gpu['taken'])} of {show_size(gpu['budget'])}" for gpu in found["gpu"]]
    if not found["workers"]:
        return [*lines, "no model is in memory"]
    rows = [("MODEL", "PID", "CHARGE", "SHARED", "GPU", "STATE", "PRIORITY", "UNTIL"), *map(_row, found["workers"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [*lines, "", *("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)]


def _row(worker: Json) -> tuple[str, ...]:
    gpu = ", ".join(f"{one['number']}: {show_size(one['bytes'])}" for one in worker["gpu"])
    until = worker["unloadAfter"] or ("pinned" if worker["pinned"] else "")
    priority = "kept" if worker["priority"] is None else str(worker["priority"])
    return (worker["model"], str(worker["pid"]), show_size(worker["own"]), show_size(worker["shared"]), gpu or "-",
            worker["state"], priority, until)  # fmt: skip
