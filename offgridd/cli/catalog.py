"""catalog, catalog sync: what this machine knows of the hub's models without asking it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import HUB, REFUSED, Client
from offgridd.cli.files import follow, shown_error
from offgridd.cli.search import ago
from offgridd.cli.terminal import complain, say
from offgridd.core.hub import HUB_TROUBLE
from offgridd.core.sizes import show_size


def add_to(commands: Any) -> None:
    one = commands.add_parser("catalog", help="what is known of the hub's models where no hub answers")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=catalog)
    actions = one.add_subparsers(dest="action")
    two = actions.add_parser("sync", help="bring the hub's list of models into it, the most downloaded first")
    two.add_argument("--author", help="only theirs")
    two.add_argument("--query", help="only those with this in their name")
    two.add_argument("--limit", type=int, help="of models; 50,000 where nothing is said")
    two.add_argument("--json", action="store_true", help="the job, when it is over")
    two.set_defaults(run=sync)


def catalog(client: Client, args: argparse.Namespace) -> int:
    found = client.json("GET", "/v1/catalog")
    if args.json:
        say(json.dumps(found, indent=2))
    elif not found["models"]:
        say("nothing is known yet; offgrid catalog sync brings the hub's list")
    else:
        newest, oldest = ago(found["newest_age"]), ago(found["oldest_age"])
        say(f"{found['models']:,} models, {found['sized']:,} of them with the sizes of their files; "
            f"{show_size(found['bytes'])} on disk; seen between {newest} and {oldest} ago")  # fmt: skip
    return 0


def sync(client: Client, args: argparse.Namespace) -> int:
    """5 where the hub did not let us; what it had brought by then stays."""
    asked = {"author": args.author, "query": args.query, "limit": args.limit}
    body = json.dumps({name: value for name, value in asked.items() if value is not None}).encode()
    job = follow(client, client.json("POST", "/v1/catalog/sync", body))
    if args.json:
        say(json.dumps(job, indent=2))
    elif job["state"] == "done":
        more = "; the hub has more: give --limit" if job["result"]["more"] else ""
        say(f"{job['result']['models']:,} models were kept, {job['result']['known']:,} are known{more}")
    if job["state"] != "done":
        complain(shown_error(job))
        return HUB if job["error"] and job["error"]["code"] in HUB_TROUBLE else REFUSED
    return 0
