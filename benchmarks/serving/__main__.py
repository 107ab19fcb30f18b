"""Ours beside llama-server, over HTTP, in one run, taking turns: `make bench-serving`.

Each row is printed and kept in benchmarks/results/ as soon as it is there; docs/serving.md is made of what is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine

from serving import busy, costs, exact, floor, kept, models, peer, prompts, report, soak, streams
from serving.lab import Lab
from serving.pairs import Plan

SCENES: dict[str, Callable[[Lab], Coroutine[None, None, None]]] = {
    "streams": streams.streams,
    "bench": streams.bench,
    "prefix": prompts.prefix,
    "chat": prompts.chat,
    "long": prompts.long,
    "kept": kept.kept,
    "busy": busy.busy,
    "controller": busy.controller,
    "exact": exact.exact,
    "cells": kept.cells,
    "costs": costs.costs,
    "floor": floor.floor,
    "soak": soak.soak,
}
BOTH = ("streams", "bench", "prefix", "chat", "long")  # what is measured with the requantised file, too
QUICK = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=lambda text: text.split(","), help=f"of {', '.join(SCENES)}; all but soak")
    parser.add_argument("--model", choices=["q4_1", "q4_0"], default="q4_1", help="q4_0: the file requantised")
    parser.add_argument("--pairs", type=int, help=f"of each scene, at least: {Plan().pairs}, or {QUICK} with --quick")
    parser.add_argument("--max-pairs", type=int, default=Plan().most, help="where fewer decide nothing")
    parser.add_argument("--quick", action="store_true", help="a few pairs, no verdict, nothing kept")
    parser.add_argument("--report", action="store_true", help="only write docs/serving.md from what is kept")
    given = parser.parse_args()
    if unknown := set(given.scenes or ()) - SCENES.keys():
        parser.error(f"no scenes are called {', '.join(sorted(unknown))}")
    return given


def main() -> None:
    given = arguments()
    if given.report:
        report.write()
        return
    pairs = given.pairs or (QUICK if given.quick else Plan().pairs)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    plan = Plan(pairs, pairs if given.quick else max(pairs, given.max_pairs), given.quick)
    lab = Lab(models.find(given.model), peer.build(), plan)
    usual = BOTH if given.model == "q4_0" else [name for name in SCENES if name != "soak"]
    for name in given.scenes or usual:
        print(f"{name}, {lab.file.title}", flush=True)
        began = time.monotonic()
        asyncio.run(SCENES[name](lab))
        print(f"  {name} took {time.monotonic() - began:.0f} s", flush=True)
    if not plan.quick:
        report.write()


if __name__ == "__main__":
    main()
