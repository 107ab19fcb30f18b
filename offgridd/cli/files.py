"""download-hf (pull), list, rm, jobs: files that are kept beside what is declared."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from offgridd.cli import declare
from offgridd.cli.client import HUB, REFUSED, Client, CliError, in_address
from offgridd.cli.terminal import complain, is_terminal, say
from offgridd.core.hub import HUB_TROUBLE
from offgridd.core.sizes import show_size

CANCELLED = 130
_BAR = 24


def add_to(commands: Any) -> None:
    for name in ("download-hf", "pull"):
        one = commands.add_parser(
            name, help="fetch a file of the hub and keep it" + (" (pull)" if name != "pull" else "")
        )
        one.add_argument(
            "repo",
            metavar="OWNER/REPO",
            help="or an address: of a repository or one of its files, or any with --sha256",
        )
        one.add_argument("--quant", action="append", help="several in order of preference; without it offgridd chooses")
        one.add_argument("--file", help="this file of the repository")
        one.add_argument("--revision", help="a commit, tag or branch")
        one.add_argument("--sha256", help="what the file must hash to: then the address may be of any server")
        one.add_argument("--max-size", help="nothing larger is fetched: 6GB, 512MiB or bytes")
        one.add_argument("--dry-run", action="store_true", help="only say what would be fetched, and why")
        one.add_argument("--wait", action="store_true", help="for as long as the hub is away")
        one.add_argument("--declare", nargs="?", const="", metavar="FILE",
                         help="show what declares it; with the manifest FILE, add it there")  # fmt: skip
        one.add_argument("--json", action="store_true", help="the job, when it is over")
        one.set_defaults(run=pull)
    one = commands.add_parser("list", help="the files that are in the store")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=listing)
    one = commands.add_parser("rm", help="remove a file that was pulled; what is declared stays")
    one.add_argument("model")
    one.set_defaults(run=remove)
    one = commands.add_parser("jobs", help="what is fetched now and was before")
    one.add_argument("--cancel", metavar="ID", help="stop one; what it has fetched stays for the next time")
    one.set_defaults(run=jobs)


def pull(client: Client, args: argparse.Namespace) -> int:
    asked = {"repo": args.repo, "quant": args.quant, "file": args.file, "revision": args.revision,
             "sha256": args.sha256, "max_size": args.max_size, "dry_run": args.dry_run or None,
             "wait": args.wait or None}  # fmt: skip
    body = json.dumps({name: value for name, value in asked.items() if value is not None}).encode()
    if args.dry_run:
        found = client.json("POST", "/v1/pull", body)
        say(json.dumps(found, indent=2) if args.json else _preview(found))
        return _declared(args, found)
    if args.declare:
        declare.readable(Path(args.declare))
    job = follow(client, client.json("POST", "/v1/pull", body))
    if args.json:
        say(json.dumps(job, indent=2))
    elif job["state"] == "done":
        say(f"{job['result']['file']} is kept; try it: offgrid run {shlex.quote(job['result']['name'])}")
    if job["state"] != "done":
        complain(shown_error(job))
        return HUB if job["error"] and job["error"]["code"] in HUB_TROUBLE else REFUSED
    return _declared(args, job["result"])


def _preview(found: dict[str, Any]) -> str:
    lines = [f"{found['repo']} at {found['commit'][:12]}: {found['why']}"]
    lines += [
        f"{'is here' if one['here'] else 'to fetch':<9} {show_size(one['size']):>9}  {one['path']}"
        for one in found["files"]
    ]
    return "\n".join([*lines, f"{show_size(found['fetched'])} of {show_size(found['size'])} would be fetched"])


def _declared(args: argparse.Namespace, found: dict[str, Any]) -> int:
    """What --declare asks for. Raises CliError."""
    if args.declare and not args.dry_run:
        name = declare.add(Path(args.declare), found["manifest"])
        if not args.json:
            say(f"{name} is declared in {args.declare}")
    elif args.declare is not None and not args.json:
        say("", found["manifest"].rstrip("\n"))
    return 0


def shown_error(job: dict[str, Any]) -> str:
    """Why a job came to nothing."""
    return f"{job['error']['code']}: {job['error']['message']}" if job["error"] else "Cancelled: it was cancelled"


def follow(client: Client, job: dict[str, Any], *, leave: bool = True) -> Any:
    """The job when it is over; its progress on stderr meanwhile. Raises CliError.

    Ctrl-C leaves it to the daemon, or ends it, where it is of use to nobody else.
    """
    try:
        return _followed(client, job["id"])
    except KeyboardInterrupt:
        say("", file=sys.stderr)
        if not leave:
            client.json("DELETE", f"/v1/jobs/{job['id']}")
            raise CliError(CANCELLED, "stopped; nothing of it is left") from None
        text = f"it goes on without you; to stop it: offgrid jobs --cancel {job['id']}"
        raise CliError(CANCELLED, text) from None


def _followed(client: Client, job: str) -> Any:
    began, shown, first, last = time.monotonic(), "", -1, None
    bar, waits = is_terminal(sys.stderr), ""
    for last in client.events("GET", f"/v1/jobs/{job}"):
        if last["state"] == "running" and last["error"] and last["error"]["message"] != waits:
            waits = last["error"]["message"]
            complain(f"waiting: {waits}")
        if last["size"]:
            here = last[last["unit"]]
            first = here if first < 0 else first
            shown = _progress(last, here - first, time.monotonic() - began)
            if bar:
                _back()
                say(shown, end="", file=sys.stderr)
    if shown:
        if bar:
            _back()
        say(shown, file=sys.stderr)
    if last is None:
        raise CliError(REFUSED, "cannot follow the job: the daemon has ended")
    return last


def _back() -> None:
    """To the beginning of the line."""
    print(end="\r", file=sys.stderr)


def _progress(job: dict[str, Any], came: int, seconds: float) -> str:
    if job["unit"] != "bytes":
        return f"{shown_so_far(job)}    "
    share = job["bytes"] / job["size"]
    rate = came / seconds if seconds > 0 else 0.0
    left = f", {(job['size'] - job['bytes']) / rate:.0f} s left" if rate and share < 1 else ""
    bar = "#" * int(share * _BAR)
    fast = f", {show_size(int(rate))}/s" if came else ""
    return f"[{bar:<{_BAR}}] {share:4.0%} of {show_size(job['size'])}{fast}{left}    "


def listing(client: Client, args: argparse.Namespace) -> int:
    files = client.json("GET", "/v1/list")["files"]
    if args.json:
        say(json.dumps(files, indent=2))
        return 0
    rows = [("FILE", "QUANT", "SIZE", "FROM", "FOR")]
    for one in files:
        owner = one["model"] or "kept"
        owner += "" if one["here"] else " (not here yet)"
        rows.append((one["files"][0], one["quant"] or "-", show_size(one["size"]), one["repo"], owner))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    say(*("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows))
    return 0


def remove(client: Client, args: argparse.Namespace) -> int:
    done = client.json("POST", "/v1/rm", json.dumps({"model": args.model}).encode())
    say(f"removed {done['removed']}, {show_size(done['freed'])} are free")
    return 0


def jobs(client: Client, args: argparse.Namespace) -> int:
    if args.cancel:
        job = client.json("DELETE", f"/v1/jobs/{in_address(args.cancel)}")
        say(f"{job['id']} is {job['state']}")
        return 0
    for job in client.json("GET", "/v1/jobs")["jobs"]:
        so_far = f"  {shown_so_far(job)}" if job["size"] else ""
        so_far += f"  waiting: {job['error']['message']}" if job["state"] == "running" and job["error"] else ""
        say(f"{job['id']}  {job['state']:<9}  {job['what']}{so_far}")
    return 0


def shown_so_far(job: dict[str, Any]) -> str:
    """How far a job is, of which that is known."""
    here, size = job[job["unit"]], job["size"]
    return f"{here / size:.0%} of {show_size(size)}" if job["unit"] == "bytes" else f"{here:,} {job['unit']}"
