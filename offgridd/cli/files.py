"""download-hf (pull), list, rm, jobs: files that are kept beside what is declared."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import Any
from urllib.parse import quote

from offgridd.cli.client import HUB, REFUSED, Client, CliError
from offgridd.cli.terminal import complain, say
from offgridd.core.hub import HUB_TROUBLE
from offgridd.core.sizes import show_size

CANCELLED = 130
_BAR = 24


def add_to(commands: Any) -> None:
    for name in ("download-hf", "pull"):
        one = commands.add_parser(
            name, help="fetch a file of the hub and keep it" + (" (pull)" if name != "pull" else "")
        )
        one.add_argument("repo", metavar="OWNER/REPO")
        one.add_argument("--quant", action="append", help="several in order of preference; without it offgridd chooses")
        one.add_argument("--file", help="this file of the repository")
        one.add_argument("--revision", help="a commit, tag or branch")
        one.add_argument("--max-size", help="nothing larger is fetched: 6GB, 512MiB or bytes")
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
             "max_size": args.max_size}  # fmt: skip
    body = json.dumps({name: value for name, value in asked.items() if value is not None}).encode()
    job = follow(client, client.json("POST", "/v1/pull", body))
    if args.json:
        say(json.dumps(job, indent=2))
    elif job["state"] == "done":
        say(f"{job['result']['file']} is kept; try it: offgrid run {shlex.quote(job['result']['name'])}")
    if job["state"] != "done":
        complain(shown_error(job))
        return HUB if job["error"] and job["error"]["code"] in HUB_TROUBLE else REFUSED
    return 0


def shown_error(job: dict[str, Any]) -> str:
    """Why a job came to nothing."""
    return f"{job['error']['code']}: {job['error']['message']}" if job["error"] else "Cancelled: it was cancelled"


def follow(client: Client, job: dict[str, Any]) -> Any:
    """The job when it is over; its progress on stderr meanwhile. Ctrl-C leaves it to the daemon. Raises CliError."""
    try:
        return _followed(client, job["id"])
    except KeyboardInterrupt:
        say("", file=sys.stderr)
        text = f"it goes on without you; to stop it: offgrid jobs --cancel {job['id']}"
        raise CliError(CANCELLED, text) from None


def _followed(client: Client, job: str) -> Any:
    began, shown, first, last = time.monotonic(), "", -1, None
    bar = sys.stderr.isatty()
    for last in client.events("GET", f"/v1/jobs/{job}"):
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
        job = client.json("DELETE", f"/v1/jobs/{quote(args.cancel, safe='')}")
        say(f"{job['id']} is {job['state']}")
        return 0
    for job in client.json("GET", "/v1/jobs")["jobs"]:
        so_far = f"  {shown_so_far(job)}" if job["size"] else ""
        say(f"{job['id']}  {job['state']:<9}  {job['what']}{so_far}")
    return 0


def shown_so_far(job: dict[str, Any]) -> str:
    """How far a job is, of which that is known."""
    here, size = job[job["unit"]], job["size"]
    return f"{here / size:.0%} of {show_size(size)}" if job["unit"] == "bytes" else f"{here:,} {job['unit']}"
