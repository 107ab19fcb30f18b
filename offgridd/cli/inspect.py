"""inspect: what a model's file says of itself, and whether it fits this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from offgridd.cli.client import Client, query_of
from offgridd.cli.terminal import say
from offgridd.core.sizes import show_size

_PARTS = {"weights": "weights", "repacked": "laid out anew for this CPU", "kv": "keys and values", "compute": "buffers",
          "base": "process and vocabulary"}  # fmt: skip
_BESIDE = {
    "moving": "sequences on the move",
    "cache": "finished prefixes (cache.ram)",
    "spilled": "sequences without cells",
}
_VERDICT = {"yes": "it fits", "no": "it does not fit", "unknown": "whether it fits is not known"}


def add_to(commands: Any) -> None:
    one = commands.add_parser("inspect", help="what a model's file says of itself, and whether it fits; not fetched")
    one.add_argument("model", help="a declared name, an alias, a kept file, or owner/repo[:QUANT|/FILE] of the hub")
    one.add_argument("--context", type=int, help="tokens of a request, in place of what is declared")
    one.add_argument("--parallel", type=int, help="requests at once, the same")
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=inspect)


def inspect(client: Client, args: argparse.Namespace) -> int:
    asked = {"model": args.model, "context": args.context, "parallel": args.parallel}
    found = client.json("GET", f"/v1/inspect?{query_of(asked)}")
    say(*([json.dumps(found, indent=2)] if args.json else _lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> Iterator[str]:
    header, source = found["header"], found["source"]
    kept = {"declared": "declared", "kept": "kept", "hub": "at the hub, neither declared nor kept"}[found["where"]]
    yield f"{found['model']}: {kept}" + ("" if found["here"] or found["where"] == "hub" else ", not fetched yet")
    if source:
        at = f" at {source['commit'][:12]}" if source["commit"] else ""  # of what was adopted nobody may know it
        yield f"  file          {source['files'][0]} of {source['hf']}{at}"
        yield f"  chosen        {source['why']}"
    yield f"  size          {show_size(found['size'])}, {header['tensors']} tensors"
    yield f"  architecture  {header['architecture']}, {header['layers']} layers, {header['vocabulary']} tokens"
    types = [f"{name} {show_size(size)}" for name, size in header["types"].items()]
    yield f"  types         {', '.join(types)}"
    yield f"  fast here     {', '.join(found['fastTypes']) or 'none of them has kernels for this CPU'}"
    yield f"  trained for   {header['contextLength']} tokens"
    made = {"embedding": "vectors of texts", "rerank": "how well texts answer a query"}.get(header["kind"])
    if made:
        yield f"  makes         {made} (pooling: {header['pooling']})"
    yield f"  template      {'yes' if header['chatTemplate'] else 'none in the file'}"
    yield from _memory(found)


def _memory(found: dict[str, Any]) -> Iterator[str]:
    memory = found["memory"]
    estimate = memory["estimate"]
    yield f"  memory for {found['parallel']} requests of {found['context']} tokens"
    if estimate is None:
        yield f"    not known: how {found['header']['architecture']} keeps its state is not understood"
    else:
        for key, text in _PARTS.items():
            if estimate[key]:
                yield f"    {show_size(estimate[key]):>9}  {text}"
        yield f"    {show_size(estimate['total']):>9}  at work"
        beside = [f"{show_size(estimate[key])} {text}" for key, text in _BESIDE.items() if estimate[key]]
        yield f"    {show_size(estimate['charge']):>9}  at most, with {', '.join(beside) or 'nothing kept'}"
    ram = "not known" if memory["ram"] is None else show_size(memory["ram"])
    gpus = "".join(f", GPU {number}: {show_size(size)}" for number, size in memory["gpu"].items())
    yield f"    {_VERDICT[memory['fits']]}: models may take {ram}{gpus}"
