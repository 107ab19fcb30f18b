"""status, plan, check, schema, reload, reconcile."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from offgridd.cli.client import REFUSED, Client, CliError

CHANGES = 6


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(REFUSED, f"cannot read {path}: {error.strerror}") from None


def status(client: Client, args: argparse.Namespace) -> int:
    found = client.json("GET", "/v1/status")
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _table(found)
    return 0


def _table(found: dict[str, Any]) -> None:
    print(f"generation {found['generation']} (observed {found['observedGeneration']})")
    for c in found["conditions"]:
        print(f"  {c['type']:<14} {c['status']:<7} {c['reason']}" + (f": {c['message']}" if c["message"] else ""))
    width = max([len(m["name"]) for m in found["models"]], default=5)
    for model in found["models"]:
        ready = next(c for c in model["conditions"] if c["type"] == "Ready")
        effective = model["effective"] or {}
        pids = ",".join(str(w["pid"]) for w in model["workers"]) or "-"
        context = effective.get("context", "-")
        print(f"{model['name']:<{width}}  Ready={ready['status']}  {ready['reason']}  context={context}  pid={pids}")
        if ready["status"] != "True" and ready["message"]:
            print(f"{'':<{width}}  {ready['message']}")


def plan(client: Client, args: argparse.Namespace) -> int:
    made = client.json("POST", "/v1/plan", _read(args.file))
    if not made["valid"]:
        print(*made["errors"], sep="\n", file=sys.stderr)
        return REFUSED
    for action in made["actions"]:
        print(f"{action['action']:<12} {action['model']}")
    if not made["changes"] and not made["actions"]:
        print("no changes")
        return 0
    return CHANGES


def check(_: Client, args: argparse.Namespace) -> int:
    from offgridd.core.errors import ManifestError
    from offgridd.effects import source
    from offgridd.manifest import SourceText, accept

    try:
        main, *fragments = [SourceText(name, text) for name, text in source.read(args.file)]
        found = accept(main, fragments)
    except OSError as error:
        raise CliError(REFUSED, f"cannot read {error.filename}: {error.strerror}") from None
    except ManifestError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return REFUSED
    print(f"{args.file}: {len(found.desired.models)} models, valid")
    return 0


def schema(_: Client, __: argparse.Namespace) -> int:
    from offgridd.manifest import schema as make

    print(json.dumps(make(), indent=2))
    return 0


def reload(client: Client, _: argparse.Namespace) -> int:
    seen = client.json("POST", "/v1/reload?wait=1")
    if not seen["accepted"]:
        print(*seen["errors"], sep="\n", file=sys.stderr)
        return REFUSED
    print(f"generation {seen['generation']}" + ("" if seen["changed"] else " (no change)"))
    return 0


def reconcile(client: Client, args: argparse.Namespace) -> int:
    client.json("POST", "/v1/reconcile" + (f"?model={args.model}" if args.model else ""))
    return 0
