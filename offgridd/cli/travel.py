"""benchmark --export and --import: records as lines of JSON, from one machine to another."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, Client, CliError, query_of
from offgridd.cli.terminal import say
from offgridd.cli.writing import write

MOST_BYTES = 16 << 20  # of a file that is imported: as the daemon has it
PAGE = 50  # records that are asked for at once


def add_to(group: Any) -> None:
    group.add_argument(
        "--export", metavar="FILE", help="write what was measured, of all models or of these; - is stdout"
    )
    group.add_argument("--import", metavar="FILE", dest="import_", help="take what was exported elsewhere")


def run(client: Client, args: argparse.Namespace) -> int:
    if args.export is not None:
        return _export(client, args.export, args.models)
    if args.models:
        raise CliError(REFUSED, "cannot import for some models only: leave MODEL out, a record says which it is of")
    made = client.lines("/v1/benchmarks", _read(args.import_))
    say(f"{made['added']} imported, {made['known']} were there")
    return 0


def _export(client: Client, file: str, models: list[str]) -> int:
    """The oldest first, each once."""
    found: dict[str, dict[str, Any]] = {}
    wanted: list[str | None] = [*models] or [None]
    for model in wanted:
        for record in _records(client, model):
            found.setdefault(record["uid"], record)
    if not found:
        raise CliError(REFUSED, "cannot export: nothing was measured yet; offgrid benchmark MODEL does")
    ordered = sorted(found.values(), key=lambda record: record["id"])
    lines = "".join(_line(record) for record in ordered)
    if file == "-":
        say(lines, end="")
    else:
        write(Path(file), lines.encode())
        say(f"{len(ordered)} exported", file=sys.stderr)
    return 0


def _records(client: Client, model: str | None) -> Iterator[dict[str, Any]]:
    """The newest first."""
    before = None
    while True:
        query = query_of({"model": model, "limit": PAGE, "before": before})
        page = client.json("GET", f"/v1/benchmarks?{query}")["benchmarks"]
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1]["id"]


def _line(record: dict[str, Any]) -> str:
    """Without what the daemon adds to it for those who read."""
    from offgridd.effects.benchformat import ADDED

    return json.dumps({name: value for name, value in record.items() if name not in ADDED}) + "\n"


def _read(file: str) -> bytes:
    """Raises CliError."""
    try:
        with open(sys.stdin.fileno() if file == "-" else file, "rb", closefd=file != "-") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise CliError(REFUSED, f"cannot read {file}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise CliError(REFUSED, f"cannot import {file}: it is larger than {MOST_BYTES >> 20} MiB; split it by lines")
    return data
