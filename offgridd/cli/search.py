"""search: models of the hub, and which file of each this machine would take."""

from __future__ import annotations

import argparse
import json
from typing import Any

from offgridd.cli.client import Client
from offgridd.cli.terminal import say
from offgridd.core.search import KINDS, MOST, SORTS
from offgridd.core.sizes import show_size

NOTHING = 1


def add_to(commands: Any) -> None:
    one = commands.add_parser("search", help="models of the hub, and which of their files would be taken")
    one.add_argument("query", nargs="?", default="", help="words that stand in the model's name")
    one.add_argument("--author")
    one.add_argument("--quant", action="append", help="only with this quant; several in order of preference")
    one.add_argument("--min-size", help="of the file that would be taken: 500MB, 4GiB or bytes")
    one.add_argument("--max-size", help="the same")
    one.add_argument("--sort", choices=SORTS)
    one.add_argument("--limit", type=int, help=f"of results, at most {MOST}")
    one.add_argument("--exclude-gated", action="store_true", help="without those whose terms must be accepted")
    one.add_argument("--kind", choices=KINDS)
    for kind in KINDS:
        one.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=f"the same as --kind {kind}")
    one.add_argument("--fits-here", action="store_true", help="without what this machine's memory can not hold")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=search)


def search(client: Client, args: argparse.Namespace) -> int:
    """1 where nothing was found."""
    asked = {"query": args.query, "author": args.author, "quant": args.quant, "min_size": args.min_size,
             "max_size": args.max_size, "sort": args.sort, "limit": args.limit, "kind": args.kind,
             "exclude_gated": args.exclude_gated, "fits": args.fits_here}  # fmt: skip
    body = {name: value for name, value in asked.items() if value not in (None, False, "")}
    found = client.json("POST", "/v1/search", json.dumps(body).encode())
    if args.json:
        say(json.dumps(found, indent=2))
    else:
        say(*_table(found["results"]), *_notes(found))
    return 0 if found["results"] else NOTHING


def _table(results: list[dict[str, Any]]) -> list[str]:
    if not results:
        return ["no model was found"]
    rows = [("MODEL", "DOWNLOADS", "LIKES", "QUANT", "SIZE", "NOTES"), *map(_cells, results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    first = next((r for r in results if "command" in r), None)
    return [*lines, *(["", f"to fetch the first: {first['command']}"] if first else [])]


def _cells(found: dict[str, Any]) -> tuple[str, ...]:
    model, best = found["model"], found["best_variant"]
    notes = [f"gated ({model['gated']})"] if model["gated"] else []
    notes += ["too large for this machine"] if best and best["fits"] == "no" else []
    notes += [f"{best['shards']} shards"] if best and best["shards"] > 1 else []
    quant = (best["quant"] or best["filename"]) if best else "-"
    size = show_size(best["size"]) if best and best["size"] is not None else "?"
    return model["id"], f"{model['downloads']:,}", f"{model['likes']:,}", quant, size, ", ".join(notes)


def _notes(found: dict[str, Any]) -> list[str]:
    """What one has to know of the answer."""
    lines = []
    if found["source"] == "catalog":
        why = f"the hub failed ({found['hub_error']['message']})" if found["hub_error"] else "offline is declared"
        lines.append(f"from the catalogue, seen up to {ago(found['age'])} ago: {why}")
    if found["partial"]:
        lines.append("not all could be looked at: narrow the search")
    return ["", *lines] if lines else []


def ago(seconds: float) -> str:
    """A length of time, for people."""
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
