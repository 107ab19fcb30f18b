"""The hub that all contenders ask, `offgridd dev-hub` in a process of its own, and how one of them is run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPO, FILE = "acme/Large-GGUF", "large-Q8_0.gguf"
BLOCK = 8 << 20
Found = dict[str, float]  # wall and cpu in seconds, peak in MB


@dataclass(frozen=True, slots=True)
class Field:
    """A hub with one file, and a folder where contenders may put it."""

    endpoint: str
    scratch: Path
    sha256: str
    size: int  # bytes
    warm: bool  # whether memory is touched before each run

    def run(self, kind: str) -> Found:
        """Raises CalledProcessError, with what it said on standard error."""
        with self._folder() as folder:
            argv = [sys.executable, "-m", "transfer.contender", kind, self.endpoint, str(folder), self.sha256]
            done = subprocess.run([*argv, str(self.size)], check=True, stdout=subprocess.PIPE)
            found: Found = json.loads(done.stdout)
            return found

    def aria(self) -> Found:
        """The whole process: it starts in some milliseconds. It does not sync, and hashes nothing."""
        with self._folder() as folder:
            argv = ["aria2c", "-x8", "-s8", "--quiet", "--file-allocation=falloc", f"--dir={folder}", f"--out={FILE}"]
            before, began = os.times(), time.perf_counter()
            subprocess.run([*argv, f"{self.endpoint}/{REPO}/resolve/main/{FILE}"], check=True)
            wall, after = time.perf_counter() - began, os.times()
            if (folder / FILE).stat().st_size != self.size:
                raise SystemExit("aria2c has not fetched the whole file")
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            return {"wall": wall, "cpu": cpu, "peak": 0.0}

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Empty. Memory that nobody used for seconds may have been given back to the host: that would cost a contender
        the more the longer the one before it took, so all find as much of it as the file takes."""
        folder = self.scratch / "one"
        folder.mkdir()
        try:
            if self.warm:
                _write(folder / "touched", self.size)
                (folder / "touched").unlink()
            yield folder
        finally:
            shutil.rmtree(folder)


@contextmanager
def field(size: int, rate: int | None = None) -> Iterator[Field]:
    """`rate`: bytes a second that the hub lets each connection have."""
    with tempfile.TemporaryDirectory() as place:
        repo, scratch = Path(place) / "hub" / REPO, Path(place) / "scratch"
        repo.mkdir(parents=True)
        scratch.mkdir()
        digest = _write(repo / FILE, size)
        argv = [sys.executable, "-c", "from offgridd.__main__ import offgridd; offgridd()", "dev-hub"]
        more = ["--rate", str(rate)] if rate else []
        hub = subprocess.Popen(
            [*argv, str(Path(place) / "hub"), "--port", "0", *more], stdout=subprocess.PIPE, text=True
        )
        try:
            assert hub.stdout is not None
            line = next(line for line in hub.stdout if line.startswith("hub at "))
            yield Field(line.split()[2].rstrip(";"), scratch, digest, size, warm=rate is None)
        finally:
            hub.terminate()
            hub.wait()


def _write(path: Path, size: int) -> str:
    """A file of so many bytes, all of its blocks different; gives its sha256."""
    block, digest = random.Random(1).randbytes(BLOCK), hashlib.sha256()
    with path.open("wb") as file:
        for at in range(0, size, BLOCK):
            data = (at.to_bytes(8, "little") + block[8:])[: size - at]
            file.write(data)
            digest.update(data)
    return digest.hexdigest()
