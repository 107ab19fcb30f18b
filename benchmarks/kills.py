"""Two hundred kill -9 at random moments of a full reconcile: `make soak-kills ARGS="--count 200 --seed N"`.

Up to three models of a local hub are fetched, verified and loaded while the manifest is edited and another is pulled.
The daemon is killed after a random time and started again. After each kill no worker lives longer than two seconds;
after every tenth it is let through and must converge. All along, by looking at the files alone: whatever was
acknowledged is still there. Workers are the deterministic ones.

With `--faults` system calls of the daemon fail at random as well: libfiu (Debian's fiu-utils) has them end with EIO,
ENOSPC, EDQUOT or EMFILE. It may end by itself then, and what it acknowledged has to be there all the same.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import random
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.hubs import Local, local_hub
from support.rig import Rig, until
from support.tinymodel import CONTROL, model

from offgridd.cli.client import CliError

REPO = "acme/Tiny-GGUF"
FILES = {f"tiny-{quant}.gguf": model(spec=CONTROL) + bytes((2 << 20) + at) for at, quant in
         enumerate(("Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K"))}  # fmt: skip
QUANTS = ("Q8_0", "Q4_K_M", "Q5_K_M")
ORPHANS = 2.0  # seconds
LIBRARIES = "/usr/lib/fiu/fiu_run_preload.so /usr/lib/fiu/fiu_posix_preload.so"
CALLS = {  # of libfiu, and how often of a thousand each fails
    "posix/io/rw/write": 20, "posix/io/rw/pwrite": 10, "posix/io/rw/ftruncate": 20, "posix/io/sync/fsync": 30,
    "posix/io/sync/fdatasync": 30, "posix/io/dir/rename": 30, "posix/io/dir/unlink": 30, "posix/io/oc/open": 1,
}  # fmt: skip
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE)


@dataclass
class Acknowledged:
    """What the daemon has said; none of it may be gone later."""

    generation: int = 0
    blobs: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)


class Trial:
    def __init__(self, folder: Path, hub: Local, dice: random.Random) -> None:
        self.rig, self.hub, self.dice, self.said = Rig(folder, "fake"), hub, dice, Acknowledged()
        self.state, self.edits = folder / "state", 0

    def edit(self) -> None:
        """Another context, a model more or less; the first one is always declared."""
        self.edits += 1
        names = [QUANTS[0], *(q for q in QUANTS[1:] if self.dice.random() < 0.7)]
        lines = [
            f"  {q.lower()}: {{source: {{hf: {REPO}}}, quant: {q}, context: {self.dice.choice((64, 128))}, threads: 1}}"
            for q in names
        ]
        text = f"""apiVersion: offgridd/v1
server: {{listen: ["127.0.0.1:{self.rig.port}"]}}
defaults: {{endpoint: "{self.hub.base}", drain: 1s}}
store: {{min_free: 0, prune: delete, grace: 1h}}
models:
"""
        new = self.rig.manifest.with_suffix(".new")
        new.write_text(text + "\n".join(lines) + "\n")
        new.rename(self.rig.manifest)

    def live_until(self, end: float) -> None:
        """Edits, pulls and writes down what is acknowledged, until it is time to die."""
        while time.monotonic() < end:
            try:
                if self.dice.random() < 0.1:
                    self.edit()
                if self.dice.random() < 0.05:  # a job: nothing is acknowledged until it is listed
                    body = {"repo": REPO, "file": "tiny-Q6_K.gguf"}
                    self.rig.admin.json("POST", "/v1/pull", json.dumps(body).encode())
                self.note()
            except (CliError, OSError, ValueError, sqlite3.OperationalError):
                continue  # not up yet, or in the middle of a call that failed

    def note(self) -> None:
        status = self.rig.status()
        writable = {c["type"]: c["status"] for c in status["conditions"]}["StateWritable"] == "True"
        if writable and status["generation"] == status["observedGeneration"]:
            with sqlite3.connect(f"file:{self.state}/state.db?mode=ro", uri=True) as db:
                row = db.execute("select number from generation").fetchone()
            db.close()
            self.said.generation = max(self.said.generation, row[0] if row else 0)
        for one in status["models"]:
            if one["file"]:
                self.said.blobs.add(one["file"]["sha256"])
        for one in self.rig.admin.json("GET", "/v1/list")["files"]:
            if one["kept"] and one["here"]:
                self.said.kept.add(one["sha256"][0])

    def check_files(self) -> None:
        """By another path than the daemon's: the folder and the database themselves."""
        for path in (self.state / "blobs").glob("sha256-*"):
            if not path.suffix:  # beside them lie notes, and parts of notes
                found = hashlib.sha256(path.read_bytes()).hexdigest()
                assert path.name == f"sha256-{found}", f"{path.name} holds other bytes"
        there = {p.name.removeprefix("sha256-") for p in (self.state / "blobs").glob("sha256-*") if not p.suffix}
        assert self.said.blobs | self.said.kept <= there, "a verified file is lost"
        with sqlite3.connect(self.state / "state.db") as db:
            row = db.execute("select number from generation").fetchone()
        db.close()
        assert (row[0] if row else 0) >= self.said.generation, "an accepted generation is lost"
        if self.said.generation:
            texts = json.loads((self.state / "last-good.json").read_bytes())
            assert texts, "the last good manifest is lost"

    def converge(self) -> None:
        self.edit()
        self.rig.start()
        until(lambda: settled(self.rig.status()), 60)
        self.note()


def failing(dice: random.Random) -> dict[str, str]:
    """The environment of a daemon whose calls fail: some kinds of them, each with one error."""
    chosen = [name for name in CALLS if dice.random() < 0.5]
    told = [
        f"enable_random name={name},probability={CALLS[name] / 1000},failinfo={dice.choice(ERRORS)}" for name in chosen
    ]
    return {"LD_PRELOAD": LIBRARIES, "FIU_ENABLE": "\n".join(told)}


def settled(status: dict[str, Any]) -> bool:
    ready = {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "True"
    return ready and status["generation"] == status["observedGeneration"]


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(count: int, seed: int, *, faults: bool) -> None:
    dice = random.Random(seed)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as place, local_hub(Path(place) / "hub") as hub:
        hub.put(REPO, FILES)
        folder = Path(place) / "d"
        folder.mkdir()
        trial, longest, converged, ended = Trial(folder, hub, dice), 0.0, 0, 0
        plain = trial.rig.env
        trial.edit()
        for number in range(count):
            trial.rig.env = plain | (failing(dice) if faults else {})
            process = trial.rig.launch()
            trial.live_until(time.monotonic() + dice.uniform(0.2, 3.0))
            workers, trial.rig.env = children(process.pid), plain
            ended += process.poll() is not None
            trial.rig.kill()
            killed = time.monotonic()
            until(lambda workers=workers: not any(map(alive, workers)), ORPHANS)
            longest = max(longest, time.monotonic() - killed)
            if (trial.state / "state.db").exists():
                trial.check_files()
            if number % 10 == 9:
                trial.converge()
                converged += 1
                assert trial.rig.stop() == 0
                trial.check_files()
                print(f"{number + 1} kills, converged {converged} times, {trial.said.generation} generations, "
                      f"{len(trial.said.blobs)} files, {len(trial.said.kept)} kept", flush=True)  # fmt: skip
        own = f", {ended} ended by themselves" if faults else ""
        print(f"{count} kills{own}: each converged, nothing lost, the last orphan was gone after {longest:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args()
    run(args.count, args.seed, faults=args.faults)
