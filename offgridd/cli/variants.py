"""variants: what a listing of files holds and which of it would be taken. Pure: no daemon, no network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, Client, CliError
from offgridd.cli.terminal import say
from offgridd.core.choice import AUTO, Choice, Wanted, choose
from offgridd.core.errors import Failure
from offgridd.core.sizes import show_size
from offgridd.core.variants import RepoFile, Variant, sort_files

MOST = 16 << 20  # bytes of a listing


def add_to(commands: Any) -> None:
    one = commands.add_parser("variants", help="the variants in a listing of files, and the choice; needs no daemon")
    one.add_argument(
        "listing", metavar="LISTING.json", help='{"files": [{"path": ..., "size": BYTES|null}]}, - = stdin'
    )
    one.add_argument("--quant", action="append", help=f"a quant or {AUTO}; several in order of preference")
    one.add_argument("--max-size", type=_size, help="of all files of the variant: 4GB, 512MiB or bytes")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=variants)


def variants(_client: Client, args: argparse.Namespace) -> int:
    """0 also where nothing suits: that is the answer, and `why` says so."""
    listing = sort_files(_read(args.listing))
    found = choose(listing.variants, Wanted(tuple(args.quant or [AUTO]), args.max_size))
    best = found.variant if isinstance(found, Choice) else None
    why = found.why if isinstance(found, Choice) else found.message
    if args.json:
        answer = {
            "variants": [_shown(v) for v in listing.variants],
            "companions": listing.companions,
            "best": best and best.filename,
            "why": why,
            "reason": found.reason if isinstance(found, Failure) else None,
        }
        say(json.dumps(answer, indent=2))
        return 0
    for variant in listing.variants:
        say(_line(variant, best is variant))
    for kind, paths in listing.companions.items():
        say(*(f"  {kind:<14} {path}" for path in paths))
    say(why)
    return 0


def _size(text: str) -> int:
    from offgridd.manifest import values  # it takes half of the time in which any command starts

    try:
        return int(text) if text.isdecimal() else values.size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"cannot read {text!r}: write {error}") from None


def _read(name: str) -> list[RepoFile]:
    """Raises CliError."""
    try:
        data = sys.stdin.buffer.read(MOST + 1) if name == "-" else Path(name).read_bytes()
        if len(data) > MOST:
            raise CliError(REFUSED, f"cannot read {name}: it is larger than {MOST >> 20} MiB")
        return [RepoFile(_path(one["path"]), _bytes(one.get("size"))) for one in json.loads(data)["files"]]
    except OSError as error:
        raise CliError(REFUSED, f"cannot read {name}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        text = f'cannot read {name}: it is no listing; write {{"files": [{{"path": "m-Q8_0.gguf", "size": 123}}]}}'
        raise CliError(REFUSED, text) from None


def _path(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value


def _shown(variant: Variant) -> dict[str, Any]:
    quant = variant.quant
    return {
        "quant": quant and quant.name, "token": quant and quant.token, "files": variant.files,
        "shards": variant.shards, "complete": variant.complete, "total_bytes": variant.total_bytes,
        "mainline_loadable": variant.loadable,
    }  # fmt: skip


def _line(variant: Variant, best: bool) -> str:
    size = show_size(variant.total_bytes) if variant.total_bytes is not None else "size unknown"
    notes = [f"{len(variant.files)} of {variant.shards} shards"] if not variant.complete else []
    notes += ["of a fork"] if variant.loadable is False else []
    name = variant.quant.name if variant.quant else "-"
    more = f"  ({', '.join(notes)})" if notes else ""
    return f"{'*' if best else ' '} {name:<14} {size:>12}  {variant.filename}{more}"
