"""`make bench-llama`: our pp512 and tg128 @ d512 beside `llama-bench` of the very source of our wheel, in turns.

Ours are of the worker, as `POST /v1/benchmark` gives them: no HTTP is in them, and all that the worker does between two
decodes is. Each pair is one run of each, the first of them in turn; the ratio says how many times as fast ours is.

`same`: every flag as our worker has it, threads declared, the environment of our workers for both; it has a bound.
`default`: nothing declared on our side, no flag and no variable on the other; its ratio is only stated.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from serving import judge, models, peer
from support.rig import Rig, until

BOUND: Final = 0.95
LEAST, MOST = 15, 60  # pairs
MAPPED: Final = ("-lm", "mmap")  # what was -mmp 1 before
SPIN: Final = {"GOMP_SPINCOUNT": "1000"}  # as effects/spawn has it


class Kind(NamedTuple):
    """What is asked of both; `figure`: where it stands in our record."""

    label: str
    flags: tuple[str, ...]
    asked: dict[str, int]
    figure: str


KINDS: Final = (
    Kind("pp512", ("-p", "512", "-n", "0"), {"prompt_tokens": 512, "output_tokens": 0}, "prompt_tps"),
    Kind(
        "tg128 @ d512",
        ("-p", "0", "-n", "128", "-d", "512"),
        {"prompt_tokens": 0, "output_tokens": 128, "depth": 512},
        "generation_tps",
    ),
)


class Scene(NamedTuple):
    """How both are set up; `model` is the one of our manifest."""

    name: str
    model: str
    flags: tuple[str, ...]
    env: dict[str, str]
    bound: float | None


def scenes(threads: int) -> tuple[Scene, ...]:
    same = ("-b", "512", "-ub", "512", "-ctk", "f16", "-ctv", "f16", "-fa", "1", "-t", str(threads), *MAPPED)
    return Scene("same", "declared", same, SPIN, BOUND), Scene("default", "plain", (), {}, None)


class Lab(NamedTuple):
    rig: Rig
    programs: Path
    file: Path


@contextmanager
def daemon(file: models.ModelFile, threads: int) -> Iterator[Rig]:
    """Both models loaded: one that is idle takes no processor."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"OFFGRIDD_STORE_ROOTS": str(file.root)} if file.root else {}
        rig = Rig(Path(folder), env=env)
        source = json.dumps(dict(file.source))
        rig.manifest.write_text(
            f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"]}}
models:
  declared: {{source: {source}, threads: {threads}}}
  plain: {{source: {source}}}
"""
        )
        rig.start()
        until(rig.is_ready, 120)
        try:
            yield rig
        finally:
            rig.stop()
            rig.api.close()


def ours(rig: Rig, scene: Scene, kind: Kind) -> float:
    """Tokens a second of the first run, disturbed or not: the other side has one try, too."""
    body = json.dumps({"model": scene.model, "iterations": 1, **kind.asked}).encode()
    record: dict[str, Any] = rig.admin.json("POST", "/v1/benchmark", body)
    return float(record["runs"][0]["figures"][kind.figure])


def theirs(lab: Lab, scene: Scene, kind: Kind) -> float:
    argv = [str(lab.programs / "llama-bench"), "-m", str(lab.file), "-r", "1", "-o", "json", *kind.flags, *scene.flags]
    done = subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **scene.env})
    return float(json.loads(done.stdout)[0]["avg_ts"])


def pair(lab: Lab, scene: Scene, kind: Kind, number: int) -> tuple[float, float]:
    """One run of each; printed."""
    if number % 2:
        mine = ours(lab.rig, scene, kind)
        other = theirs(lab, scene, kind)
    else:
        other = theirs(lab, scene, kind)
        mine = ours(lab.rig, scene, kind)
    print(
        f"{scene.name} {kind.label} {number}: ours {mine:.2f}, llama-bench {other:.2f}: {mine / other:.3f}", flush=True
    )
    return mine, other


def measure(lab: Lab, asked: Sequence[tuple[Scene, Kind]], most: int, until: float) -> list[list[tuple[float, float]]]:
    """Of each the pairs until its bound is decided, all in turns; less where the time (monotonic) is up."""
    found: list[list[tuple[float, float]]] = [[] for _ in asked]
    least, going = min(LEAST, most), True
    while going and time.monotonic() < until:
        going = False
        for (scene, kind), pairs in zip(asked, found, strict=True):
            settled = judge.settled(judge.ratios(pairs, higher=True), scene.bound, least)
            if len(pairs) < most and not settled:
                pairs.append(pair(lab, scene, kind, len(pairs) + 1))
                going = True
    return found


def report(scene: Scene, kind: Kind, pairs: Sequence[tuple[float, float]]) -> str:
    found = judge.judge(judge.ratios(pairs, higher=True), scene.bound)
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    bound = f"at least {scene.bound}" if scene.bound else "-"
    ratio = f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
    cells = (scene.name, kind.label, f"{mine:.1f}", f"{other:.1f}", ratio, bound, found.verdict, str(len(pairs)))
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("q4_1", "q4_0"), default="q4_1")
    parser.add_argument("--scenes", default="same,default", help="with commas between")
    parser.add_argument("--kinds", default="pp512,tg128 @ d512", help="with commas between")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=MOST, help="at most so many of each")
    parser.add_argument("--minutes", type=float, default=120, help="at most; then what there is is judged")
    given = parser.parse_args()
    file, programs, until = models.find(given.model), peer.build("llama-bench"), time.monotonic() + 60 * given.minutes
    print(f"{file.title}, {given.threads} threads, llama-cpp-python {peer.pinned()[0]}")
    used = [one for one in scenes(given.threads) if one.name in given.scenes.split(",")]
    asked = [(scene, kind) for scene in used for kind in KINDS if kind.label in given.kinds.split(",")]
    for scene in used:
        print(f"{scene.name}: llama-bench {' '.join(scene.flags) or 'without flags'}")
    with daemon(file, given.threads) as rig:
        found = measure(Lab(rig, programs, file.path), asked, given.pairs, until)
    print("| settings | what | ours, tokens/s | llama-bench | ratio (95 %) | bound | | pairs |")
    print("| --- | --- | ---: | ---: | --- | --- | --- | ---: |")
    print(*(report(scene, kind, pairs) for (scene, kind), pairs in zip(asked, found, strict=True) if pairs), sep="\n")


if __name__ == "__main__":
    main()
