"""`make bench-perplexity`: our perplexity of the bundled text beside `llama-perplexity` of the source of our wheel.

Theirs with its defaults, ours from a worker as the daemon starts it. The quickstart's model and the same requantised;
and models of random weights for what it is not: with BOS before a text, recurrent, with a sliding window. Ends with 1
where one differs by more than 0.5 %.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving import models, peer
from support.randommodel import Weights, write_random
from support.serving import serving
from support.tinymamba import write_mamba

from offgridd.core.quality import N_CTX, Sums, perplexity
from offgridd.effects.quality import TEXT, bundled
from offgridd.engine import wire

WITHIN: Final = 0.005


def subjects(folder: Path) -> Iterator[tuple[str, Path]]:
    for name in ("q4_1", "q4_0"):
        file = models.find(name)
        yield file.title, file.path
    yield "random weights, BOS before a text", write_random(folder / "bos.gguf", Weights(vocabulary=2048))
    window = Weights("gemma2", vocabulary=2048, window=128, head=64)
    yield "random weights, sliding window of 128", write_random(folder / "window.gguf", window)
    yield "random weights, recurrent", write_mamba(folder / "mamba.gguf")


def ours(file: Path, threads: int) -> tuple[float, float]:
    sums, chunk, chunks = Sums(0, 0.0, 0.0), 0, 1
    with serving(file, context=2 * N_CTX, parallel=1, threads=threads) as worker:
        while chunk < chunks:
            scored = worker.score(bundled(), N_CTX, chunk)
            if isinstance(scored, wire.Refused):
                raise SystemExit(scored.message)
            sums += Sums(scored.tokens, scored.sum, scored.squares)
            chunk, chunks = chunk + 1, scored.chunks
    found = perplexity(sums)
    assert found is not None
    return found


def theirs(programs: Path, file: Path, threads: int) -> tuple[float, float]:
    argv = [programs / "llama-perplexity", "-m", file, "-f", TEXT, "-t", threads]
    done = subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True)
    found = re.search(r"Final estimate: PPL = ([0-9.]+) \+/- ([0-9.]+)", done.stdout + done.stderr)
    if found is None:
        raise SystemExit(f"cannot read what llama-perplexity says:\n{done.stdout}{done.stderr}")
    return float(found[1]), float(found[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given, worst = parser.parse_args(), 0.0
    programs = peer.build("llama-perplexity")
    print("| model | ours | llama-perplexity | difference |\n| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for title, file in subjects(Path(folder)):
            (mine, error), (other, others) = ours(file, given.threads), theirs(programs, file, given.threads)
            off = mine / other - 1
            worst = max(worst, abs(off))
            print(f"| {title} | {mine:.4f} +/- {error:.4f} | {other:.4f} +/- {others:.4f} | {off:+.4%} |", flush=True)
    if worst > WITHIN:
        sys.exit(f"they differ by more than {WITHIN:.1%}")


if __name__ == "__main__":
    main()
