"""`make bench-embed`: 1,000 short texts to our daemon and to `llama-server --embeddings` of the same source, in turns.

Both over HTTP, with the same file (all-MiniLM-L6-v2 as f16), threads and flash attention, asked in the same bytes:
all texts in one request, and one text a request over eight connections. llama-server gets the better of its own slots
and 64. `--fill` measures what rows of a decode cost by how far it is filled, in this process: what `FILL` is chosen by.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from serving import peer
from serving.pairs import Contender, Found, Measure, Plan, Question, compare, turns
from serving.record import machine
from support.encoders import write_minilm
from support.rig import Rig, free_port, until

COUNT: Final = 1000
CONNECTIONS: Final = 8
WORDS: Final = (
    "river", "stone", "lantern", "quiet", "market", "winter", "garden", "letter", "signal", "harbour", "copper",
    "evening", "mirror", "falcon", "orchard", "thunder",
)  # fmt: skip
SCENES: Final = ("one request", "one text a request")
FILLS: Final = (64, 128, 192, 256, 384, 512, 768, 1024)
LENGTHS: Final = (12, 40, 150)


def texts(turn: int) -> list[str]:
    """Of 4 to 14 words; never those of another turn."""
    dice = random.Random(turn)
    return [" ".join(dice.choices(WORDS, k=dice.randint(4, 14))) + f" {turn}" for _ in range(COUNT)]


def post(port: int, body: bytes, connection: http.client.HTTPConnection | None = None) -> Any:
    made = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    made.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
    answer = made.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {data[:500]!r}")
    return data


def together(port: int, turn: int) -> float:
    """Texts a second."""
    body = json.dumps({"model": "minilm", "input": texts(turn)}).encode()
    began = time.perf_counter()
    data = post(port, body)
    took = time.perf_counter() - began
    assert len(json.loads(data)["data"]) == COUNT
    return COUNT / took


def one_by_one(port: int, turn: int) -> float:
    bodies = [json.dumps({"model": "minilm", "input": text}).encode() for text in texts(turn)]

    def some(start: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for body in bodies[start::CONNECTIONS]:
            post(port, body, connection)
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(some, range(CONNECTIONS)))
    return COUNT / (time.perf_counter() - began)


RATES: Final[dict[str, Callable[[int, int], float]]] = dict(zip(SCENES, (together, one_by_one), strict=True))


@contextmanager
def ours(file: Path, threads: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), env={"OFFGRIDD_STORE_ROOTS": str(file.parent)})
        model = {"source": {"file": str(file)}, "threads": threads}
        listen = {"listen": [f"127.0.0.1:{rig.port}"]}
        rig.manifest.write_text(
            json.dumps({"apiVersion": "offgridd/v1", "server": listen, "models": {"minilm": model}})
        )
        try:
            rig.start()
            until(rig.is_ready, 60)
            yield rig.port
        finally:
            rig.stop()
            rig.api.close()


@contextmanager
def theirs(programs: Path, file: Path, threads: int, *more: object) -> Iterator[int]:
    port = free_port()
    argv = [programs / "llama-server", "-m", file, "--port", port, "--embeddings", "-t", threads, "-fa", "on",
            "--no-webui", *more]  # fmt: skip
    with subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or peer._answers(port), 60)
            if process.poll() is not None:
                raise RuntimeError(f"llama-server ended with {process.returncode}: {argv}")
            yield port
        finally:
            process.terminate()
            process.wait(20)


def rate(scene: str, port: int) -> Measure:
    async def measure(turn: int) -> Found:
        return {scene: await asyncio.to_thread(RATES[scene], port, turn)}

    return measure


def beside(scenes: Sequence[str], plan: Plan, threads: int) -> None:
    file, programs = minilm(), peer.build("llama-server")
    print(machine(), flush=True)
    ways = {"its own slots": (), "64 slots": ("-np", 64, "-c", 64 * 512, "-kvu")}
    for scene in scenes:
        with ExitStack() as stack:
            port = stack.enter_context(ours(file, threads))
            rivals = {name: stack.enter_context(theirs(programs, file, threads, *more)) for name, more in ways.items()}
            for one in (port, *rivals.values()):
                RATES[scene](one, next(turns))  # the first answers of a process are slow
            tries = {name: statistics.median(RATES[scene](one, next(turns)) for _ in range(3))
                     for name, one in rivals.items()}  # fmt: skip
            best = max(tries, key=lambda name: tries[name])
            note = f"llama-server with {best}; " + ", ".join(f"{name}: {one:.0f}" for name, one in tries.items())
            asked = Question(scene, f"{COUNT} short texts, {scene}, {threads} threads", "texts/s", bound=1.0)
            other = Contender(rate(scene, rivals[best]), note)
            for row in asyncio.run(compare(plan, [asked], rate(scene, port), other, slow=False)):
                print(row, flush=True)


def minilm() -> Path:
    folder = peer.place() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return write_minilm(folder / "all-MiniLM-L6-v2.f16.gguf")


def fill(threads: int) -> None:
    """Tokens a second by rows of a decode and tokens of an input, in turns; medians."""
    from offgridd.engine.llama import Embedder, Settings
    from offgridd.engine.port import Passage

    encoder = Embedder(str(minilm()), Settings(None, threads), "mean")
    encoder._chunk = max(FILLS)
    encoder._settings = Settings(max(FILLS), threads)
    encoder.context = max(FILLS)
    encoder._open(memory=False, causal=False)
    found: dict[tuple[int, int], list[float]] = {}
    for _ in range(9):
        for length in LENGTHS:
            for rows in FILLS:
                passages = [Passage(i, 0, [2003 + i] * length, True) for i in range(min(63, max(1, rows // length)))]
                began, count = time.perf_counter(), 0
                while time.perf_counter() - began < 0.15:
                    encoder.encode(passages)
                    count += len(passages) * length
                found.setdefault((length, rows), []).append(count / (time.perf_counter() - began))
    print("| tokens of an input |" + "".join(f" {rows} |" for rows in FILLS))
    for length in LENGTHS:
        rates = (statistics.median(found[length, rows]) for rows in FILLS)
        print(f"| {length} |" + "".join(f" {one:.0f} |" for one in rates), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="embed.py", description=__doc__.splitlines()[0])
    parser.add_argument("--fill", action="store_true", help="what rows cost by how far a decode is filled")
    parser.add_argument("--pairs", type=int, default=Plan().pairs)
    parser.add_argument("--quick", action="store_true", help="so many pairs, and no verdict")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--scene", choices=SCENES, help="one of both")
    given = parser.parse_args()
    if given.fill:
        fill(given.threads)
        return
    plan = Plan(given.pairs, given.pairs if given.quick else max(given.pairs, Plan().most), given.quick)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    beside([given.scene] if given.scene else SCENES, plan, given.threads)


if __name__ == "__main__":
    main()
