"""verify: whether files are still what they were when they were hashed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import REFUSED, Client
from offgridd.cli.files import follow, shown_error
from offgridd.cli.terminal import complain, say
from offgridd.core.sizes import show_size


def add_to(commands: Any) -> None:
    one = commands.add_parser("verify", help="whether files are still what they were; 1 where one is not")
    one.add_argument("model", nargs="?", metavar="MODEL", help="all that is declared or kept, where none is named")
    one.add_argument("--deep", action="store_true", help="read all of it, not only what the file system says of it")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=verify)


def verify(client: Client, args: argparse.Namespace) -> int:
    asked = json.dumps({"model": args.model, "deep": args.deep}).encode()
    job = follow(client, client.json("POST", "/v1/verify", asked))
    if args.json:
        say(json.dumps(job, indent=2))
    if job["state"] != "done":
        complain(shown_error(job))
        return REFUSED
    if not args.json:
        say(*_table(job["result"]["files"]))
    return 0 if job["result"]["good"] else REFUSED


def _table(files: list[dict[str, Any]]) -> list[str]:
    if not files:
        return ["nothing is declared or kept"]
    rows = [("FILE", "SIZE", "FOR", "STATE")]
    for one in files:
        names = ", ".join("kept" if "/" in name else name for name in one["models"])
        state = one["state"] + (f": {one['why']}" if one["why"] else "") + (f"; {one['then']}" if one["then"] else "")
        rows.append((" ".join(one["file"].rpartition("/")[2].split()), show_size(one["size"]), names, state))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
