"""gc: what of the store nobody needs any more."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import REFUSED, Client
from offgridd.cli.terminal import complain, say
from offgridd.core.sizes import show_size

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def add_to(commands: Any) -> None:
    one = commands.add_parser("gc", help="what of the store nobody needs any more; removes it with --yes")
    one.add_argument("--yes", action="store_true", help="remove it; without this it is only listed")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=collect)


def collect(client: Client, args: argparse.Namespace) -> int:
    """1 where something could not be removed."""
    done = client.json("POST", "/v1/gc", json.dumps({"remove": args.yes}).encode())
    if args.json:
        say(json.dumps(done, indent=2))
    else:
        say(*_table(done["entries"]), _sum(done))
    failed = [one for one in done["entries"] if one["error"]]
    for one in failed:
        complain(f"{one['kind']} {one['name'][:12]}: {one['error']}")
    return REFUSED if failed else 0


def _table(entries: list[dict[str, Any]]) -> list[str]:
    rows = [("WHAT", "NAME", "SIZE", "FILE", "VERDICT")] if entries else []
    for one in sorted(entries, key=lambda e: not e["goes"]):
        left = f" {_span(one['left'])} left" if one["left"] is not None else ""
        done = "removed" if one["removed"] else "goes" if one["goes"] else "stays"
        title = " ".join((one["file"] or "-").split())
        rows.append((one["kind"], one["name"][:12], show_size(one["size"]), title, f"{done}: {one['reason']}{left}"))
    widths = [max(len(row[i]) for row in rows) for i in range(5)] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _sum(done: dict[str, Any]) -> str:
    if done["remove"]:
        return f"{show_size(done['freed'])} are free"
    if any(one["goes"] for one in done["entries"]):
        return f"{show_size(done['bytes'])} would be free; to remove it: offgrid gc --yes"
    return "nothing is to be removed"


def _span(seconds: float) -> str:
    """In the largest unit of which there is at least one: `5d`, `23h`."""
    name, size = next((unit for unit in _UNITS if seconds >= unit[1]), _UNITS[-1])
    return f"{round(seconds / size)}{name}"
