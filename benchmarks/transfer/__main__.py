"""Fetching a file, beside other clients of the same hub, in turns: `make bench-transfer`.

Each row is printed and kept in benchmarks/results/ as soon as it is there; docs/transfer.md is made of what is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import time
from collections.abc import Callable, Coroutine

from serving.judge import interval
from serving.pairs import Contender, Plan, Question, compare
from serving.peer import ROOT
from serving.record import Row, keep, stated

from transfer import report
from transfer.hub import Field, Found, field

RESULTS = ROOT / "benchmarks" / "results" / "transfer.json"
GROUP = "transfer"
LIMITED, RATE = 256_000_000, 10_000_000  # bytes, and bytes a second of each connection
FREE = 512_000_000
SMALL, LARGE = 64_000_000, 2_000_000_000
GROWTH = 32 * 2**20 / 1e6  # MB


class Bench:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def note(self, *rows: Row) -> None:
        for row in rows:
            print(f"  {row}", flush=True)
            if not self.plan.quick:
                keep(GROUP, row, RESULTS)

    async def beside(self, asked: list[Question], runs: tuple[Callable[[], Found], Callable[[], Found]], note: str = "",
                     *, slow: bool = False) -> None:  # fmt: skip
        """Ours and another one, in turns."""
        ours, other = (_measure(run) for run in runs)
        self.note(*await compare(self.plan, asked, ours, Contender(other, note), slow=slow))


def _measure(run: Callable[[], Found]) -> Callable[[int], Coroutine[None, None, Found]]:
    async def measure(_turn: int) -> Found:
        return await asyncio.to_thread(run)

    return measure


async def library(bench: Bench) -> None:
    with field(LIMITED, RATE) as there:
        asked = [_named("limited-library", "256 MB at 10 MB/s a connection", "hf_hub_download", 4)]
        await bench.beside(asked, _keyed(asked, there, "ours", "hub-library"), "one connection, Xet off", slow=True)


async def aria(bench: Bench) -> None:
    if shutil.which("aria2c") is None:
        print("  aria2c is not installed (apt-get install aria2): nothing is measured beside it", flush=True)
        return
    with field(LIMITED, RATE) as there:
        asked = [_named("limited-aria2c", "256 MB at 10 MB/s a connection", "aria2c -x8 -s8", 0.95)]
        await bench.beside(asked, _keyed(asked, there, "ours", there.aria), "it neither syncs nor hashes")


async def hashing(bench: Bench) -> None:
    """What the processor does while a limited hub sends, and how much of that is hashing."""
    found: dict[str, list[Found]] = {"ours": [], "unhashed": []}
    with field(LIMITED, RATE) as there:
        for _ in range(bench.plan.pairs):
            for kind, runs in found.items():
                runs.append(there.run(kind))
    shares = {kind: [one["cpu"] / one["wall"] for one in runs] for kind, runs in found.items()}
    for kind, title in (("ours", "with hashing"), ("unhashed", "without hashing")):
        cpu, seconds = (statistics.median(one[name] for one in found[kind]) for name in ("cpu", "wall"))
        text = f"{cpu:.2f} s of the processor in {seconds:.2f} s: {statistics.median(shares[kind]):.1%} of a core"
        bench.note(stated(f"limited-cpu-{kind}", f"256 MB at 8 x 10 MB/s, {title}", text))
    more = [a - b for a, b in zip(shares["ours"], shares["unhashed"], strict=True)]
    middle, (low, high) = statistics.median(more), interval(more)
    text = f"{middle:.1%} of a core [{low:.1%}, {high:.1%}], {len(more)} pairs"
    title = "256 MB at 8 x 10 MB/s, hashing alone (aim: under 5 %)"
    bench.note(stated("limited-cpu-share", title, text, holds=middle < 0.05))


async def free(bench: Bench) -> None:
    """Without limit: the same promise (hashed and synced), and less of it."""
    what = "512 MB, no limit"
    with field(FREE) as there:
        for ours, kind, key, title, beside, bound in (
            ("ours", "plain-hashed", "free-all", f"{what}: hashed, synced", "plain stream, hashed, synced", 0.95),
            ("unhashed", "plain-synced", "free-synced", f"{what}: synced, not hashed", "plain stream, synced", 0.95),
            ("ours", "plain-synced", "free-more", f"{what}: hashed beside not", "plain stream, synced", 0.95),
            ("ours", "plain", "free-bare", f"{what}: all beside nothing", "plain stream, not synced", 0.95),
        ):
            print(f"  {title}", flush=True)
            asked = [_named(key, title, beside, bound)]
            await bench.beside(asked, _keyed(asked, there, ours, kind))


async def costs(bench: Bench) -> None:
    """Seconds of wall and processor without limit."""
    kinds = ("ours", "unhashed", "plain", "plain-synced", "plain-hashed")
    found: dict[str, list[Found]] = {kind: [] for kind in kinds}
    with field(FREE) as there:
        for _ in range(bench.plan.pairs):
            for kind in kinds:
                found[kind].append(there.run(kind))
    for kind, runs in found.items():
        cpu, seconds = (statistics.median(one[name] for one in runs) for name in ("cpu", "wall"))
        text = f"{seconds:.2f} s, of the processor {cpu:.2f} s; {len(runs)} runs"
        bench.note(stated(f"free-cpu-{kind}", f"512 MB, no limit: {report.KINDS[kind]}", text))


async def memory(bench: Bench) -> None:
    peaks: dict[int, float] = {}
    for size in (SMALL, LARGE):
        with field(size) as there:
            peaks[size] = max(there.run("ours")["peak"] for _ in range(3))
    text = f"{peaks[SMALL]:.0f} MB for a file of 64 MB, {peaks[LARGE]:.0f} MB for one of 2 GB"
    title = "Most resident memory (aim: grows by under 32 MiB)"
    bench.note(stated("memory", title, text, holds=peaks[LARGE] - peaks[SMALL] < GROWTH))


def _named(key: str, title: str, beside: str, bound: float) -> Question:
    return Question(key, title, "s", bound, higher=False, beside=beside)


def _keyed(
    asked: list[Question], there: Field, ours: str, other: str | Callable[[], Found]
) -> tuple[Callable[[], Found], Callable[[], Found]]:
    """Both runs, with their seconds under the question's key."""
    (question,) = asked
    run = other if callable(other) else lambda: there.run(other)
    return lambda: {question.key: there.run(ours)["wall"]}, lambda: {question.key: run()["wall"]}


SCENES = {scene.__name__: scene for scene in (library, aria, hashing, free, costs, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m transfer", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=lambda text: text.split(","), help=f"of {', '.join(SCENES)}")
    parser.add_argument("--pairs", type=int, default=Plan().pairs)
    parser.add_argument("--max-pairs", type=int, default=30, help="where fewer decide nothing")
    parser.add_argument("--quick", action="store_true", help="three pairs, no verdict, nothing kept")
    parser.add_argument("--report", action="store_true", help="only write docs/transfer.md from what is kept")
    given = parser.parse_args()
    if unknown := set(given.scenes or ()) - SCENES.keys():
        parser.error(f"no scenes are called {', '.join(sorted(unknown))}")
    plan = Plan(3, 3, True) if given.quick else Plan(given.pairs, max(given.pairs, given.max_pairs))
    for name in () if given.report else given.scenes or SCENES:
        print(name, flush=True)
        began = time.monotonic()
        asyncio.run(SCENES[name](Bench(plan)))
        print(f"  {name} took {time.monotonic() - began:.0f} s", flush=True)
    if not plan.quick:
        report.write(RESULTS)


if __name__ == "__main__":
    main()
