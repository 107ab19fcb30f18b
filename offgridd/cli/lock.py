"""lock: what each model's source means, written down beside the manifest."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, Client
from offgridd.cli.reading import read_files
from offgridd.cli.terminal import complain, say
from offgridd.cli.writing import write
from offgridd.core.sizes import show_size
from offgridd.effects import source


def add_to(commands: Any) -> None:
    one = commands.add_parser("lock", help="write down what each model's source means, for all machines alike")
    one.add_argument("file", type=Path, help="the manifest; the lock is written beside it")
    how = one.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only whether the lock is right: no daemon, no network")
    how.add_argument(
        "--update", nargs="*", metavar="MODEL", help="take what the hub has now: for these models, or for all"
    )
    one.add_argument("--for-this-host", action="store_true", help="choose within the memory that the manifest declares")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=lock)


def lock(client: Client, args: argparse.Namespace) -> int:
    if args.check:
        return _check(args)
    files = [{"name": name, "text": text.decode("utf-8", "replace")} for name, text in read_files(args.file)]
    update = args.update if args.update else args.update is not None
    asked = {"files": files, "update": update, "for_this_host": args.for_this_host}
    made = client.json("POST", "/v1/lock", json.dumps(asked).encode())
    write(source.lock_of(args.file), made["lock"].encode())
    say(*([json.dumps(made, indent=2)] if args.json else [*map(_line, made["changes"])] or ["nothing has changed"]))
    return 0


def _check(args: argparse.Namespace) -> int:
    """Pure: what the files say."""
    from offgridd.core.errors import ManifestError

    try:
        wrong = [*_differences(args.file)]
    except ManifestError as error:
        wrong = [str(p) for p in error.problems]
    if args.json:
        say(json.dumps({"differences": wrong}, indent=2))
    for text in wrong:
        complain(text)
    return REFUSED if wrong else 0


def _differences(path: Path) -> Iterator[str]:
    """Where the lock is not what offgrid lock would leave as it is. Raises ManifestError, CliError."""
    from offgridd.core.adapters import with_adapters_of
    from offgridd.core.errors import Failure
    from offgridd.manifest import accept_files, is_lock, read_lock, write_lock

    files = read_files(path)
    models = with_adapters_of(accept_files(files).desired.models)
    found = next(((name, text) for name, text in files[1:] if is_lock(name)), None)
    if found is None:
        yield f"cannot find {source.lock_of(path)}: run offgrid lock {path}"
        return
    yield from (spec.lock.message for spec in models.values() if isinstance(spec.lock, Failure))
    entries = read_lock(*found)
    yield from (
        f"cannot match {name}: the lock names it, and the manifest declares no model of a hub by that name"
        for name in entries
        if name not in models or models[name].lock is None
    )
    if write_lock(entries).encode() != found[1]:
        yield "cannot match the lock: it is not as offgrid lock writes it; run offgrid lock"


def _line(change: dict[str, Any]) -> str:
    to, was = change["to"], change["from"]
    if to is None:
        return f"removed {change['model']}"
    files = to["files"][0] + (f" and {len(to['files']) - 1} more" if len(to["files"]) > 1 else "")
    moved = f" (was {was['commit'][:12]})" if was else ""
    done = "updated" if was else "added"
    return f"{done} {change['model']}: {files}, {show_size(to['size'])}, {to['repo']} at {to['commit'][:12]}{moved}"
