"""`make bench-adapters`: what adapters cost: eight streams of one worker, in turns of two ways.

base: all of the model itself. one: all with one adapter. two: four with each of two. The tokens of all streams over
the time from the first to the last of them, in steps of which none is a prompt's; without HTTP. Adapters are of rank
8, on each layer's q and v, made here of random values: what they say does not matter to the time.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from serving import judge, models
from serving.floor import ENDS
from serving.peer import Shape
from serving.quiet import MOST as MOST_OTHERS
from serving.quiet import Quiet
from serving.worker import Worker, named, worker
from support.lora import Lora, write
from support.tinymodel import Shape as Dims

from offgridd.engine import wire

STREAMS, TOKENS, LAYERS = 8, 64, 30
PAIRS: Final = 15
WAYS: Final[dict[str, Sequence[tuple[str, ...]]]] = {
    "base": [()] * STREAMS,
    "one": [("a",)] * STREAMS,
    "two": [("a",), ("b",)] * (STREAMS // 2),
}
_ids = itertools.count(1_000_000)


def smol() -> dict[str, Dims]:
    """SmolLM2-135M's: 576 wide, values of 192."""
    return {
        name: dims
        for layer in range(LAYERS)
        for name, dims in ((f"blk.{layer}.attn_q.weight", (576, 576)), (f"blk.{layer}.attn_v.weight", (576, 192)))
    }


def rate(side: Worker, way: Sequence[tuple[str, ...]], seed: int) -> float:
    """Tokens a second of all streams together."""
    bias = tuple((token, -100.0) for token in ENDS)
    open_ = set[int]()
    for number, adapters in enumerate(way):
        request = next(_ids)
        open_.add(request)
        sampling = wire.SamplingParams(temperature=0, seed=seed, logit_bias=bias)
        message = wire.Message("user", f"Tell me story number {number} of a dragon.")
        side.send(wire.Chat(request, str(number), (message,), sampling, TOKENS, adapters=adapters))
    begun, made, first = set[int](), 0, 0.0
    while open_:
        frame = side.receive()
        if isinstance(frame, wire.Finish | wire.Refused):
            if not isinstance(frame, wire.Finish) or frame.completion_tokens != TOKENS:
                raise RuntimeError(f"the worker did not make {TOKENS} tokens: {frame}")
            open_.discard(frame.id)
        elif isinstance(frame, wire.Tokens):
            begun |= {item.request for item in frame.items}
            if first:
                made += len(frame.items)
            elif len(begun) == len(way):
                first = time.perf_counter()
    return made / (time.perf_counter() - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=PAIRS)
    given = parser.parse_args()
    file = models.find("q4_1")
    shape = Shape(slots=STREAMS, cells=STREAMS * 512, context=512, threads=given.threads)
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        adapters = []
        for number, name in enumerate("ab"):
            path = write(Path(folder, f"{name}.gguf"), Lora(smol(), seed=number, rank=8, size=0.02).bytes())
            ((where, identity),) = named(path)
            adapters.append(wire.AdapterFile(name, where, identity))
        with worker(file.path, shape, adapters=tuple(adapters)) as side:
            for way in WAYS.values():
                rate(side, way, 0)
            for number in range(4 * given.pairs):
                names, quiet = list(WAYS) if number % 2 else list(WAYS)[::-1], Quiet()
                round_ = {name: rate(side, WAYS[name], number) for name in names}
                others = quiet.others()
                shown = " ".join(f"{name} {value:.1f}" for name, value in round_.items())
                print(f"{number + 1} {shown}; others took {others:.0%}", flush=True)
                for name, value in round_.items() if others <= MOST_OTHERS else ():
                    found[name].append(value)
                if len(found["base"]) == given.pairs:
                    break
    print(f"{file.title}, {given.threads} threads, {STREAMS} streams, tokens/s of all together")
    print("| way | tokens/s | beside base (95 %) | beside one (95 %) | pairs |")
    print("| --- | ---: | --- | --- | ---: |")
    for name, values in found.items():
        beside = [ratio(values, found[other]) if name != other else "-" for other in ("base", "one")]
        print(f"| {name} | {statistics.median(values):.1f} | {' | '.join(beside)} | {len(values)} |")


def ratio(ours: Sequence[float], other: Sequence[float]) -> str:
    shares = [a / b for a, b in zip(ours, other, strict=True)]
    low, high = judge.interval(shares)
    return f"{statistics.median(shares):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
