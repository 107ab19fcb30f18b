"""The peer: llama.cpp's own programs, built from the very source that our wheel is made of, and run beside ours."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.rig import free_port, until

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "llama-cpp.lock"
PROGRAMS = ("llama-server", "llama-bench")
SWITCHES = {"LLAMA_CURL": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF", "GGML_NATIVE": "ON",
            "LLAMA_BUILD_COMMON": "ON", "LLAMA_BUILD_TOOLS": "ON", "LLAMA_BUILD_SERVER": "ON"}  # fmt: skip
NO_AMX = "-U__AMX_INT8__"  # as scripts/setup.py has it: docs/decisions/0012-no-amx.md
SPIN = {"GOMP_SPINCOUNT": "1000"}  # as our workers have it; llama-bench is the limit, so it gets the same


@dataclass(frozen=True, slots=True)
class Shape:
    """How both servers are set up. `context` is what one request may use; `cells` what all may hold together."""

    slots: int
    cells: int
    context: int
    threads: int = 2


def pinned() -> tuple[str, str]:
    """Version and sha256 of the source in llama-cpp.lock."""
    found = re.search(r"==(\S+).*?sha256:([0-9a-f]{64})", LOCK.read_text(), re.DOTALL)
    assert found, f"{LOCK.name} pins nothing"
    return found[1], found[2]


def place() -> Path:
    """Where what is built is kept between checkouts: by version and by CPU, for which it is built."""
    home = os.environ.get("OFFGRIDD_CACHE")
    kept = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offgridd"
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else platform.processor()
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.MULTILINE)
    key = hashlib.sha256((NO_AMX + (flags[1] if flags else info)).encode()).hexdigest()[:8]
    return kept / "serving" / f"{pinned()[0]}-{key}"


def build(*names: str) -> Path:
    """The folder of these programs (PROGRAMS); the first call downloads the source and compiles for some minutes."""
    folder, wanted = place(), names or PROGRAMS
    programs = folder / "build" / "bin"
    if all((programs / name).exists() for name in wanted):
        return programs
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(folder)
    tools = tools_python("cmake", "ninja").parent
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "CFLAGS": NO_AMX, "CXXFLAGS": NO_AMX}
    options = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{name}={value}" for name, value in SWITCHES.items())]
    _run("cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", *options, env=env)
    _run("cmake", "--build", folder / "build", "--target", *wanted, env=env)
    return programs


def tools_python(*packages: str) -> Path:
    """A Python with these packages, apart from the package's own environment."""
    tools = place() / "tools"
    uv = ROOT / ".cache" / "uv" / "bin" / "uv"
    _run(uv, "venv", "-q", "--allow-existing", "--python", sys.executable, tools)
    _run(uv, "pip", "install", "-q", "--python", tools / "bin" / "python", *packages)
    return tools / "bin" / "python"


def _source(folder: Path) -> Path:
    """The unpacked source of llama.cpp, from the sdist with the pinned sha256."""
    version, sha256 = pinned()
    unpacked = folder / "source"
    if not unpacked.exists():
        wanted = ["--no-deps", "--no-binary", "llama-cpp-python", "--require-hashes", "-r", LOCK, "-d", folder]
        _run(sys.executable, "-m", "pip", "download", "-q", *wanted)
        archive = folder / f"llama_cpp_python-{version}.tar.gz"
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise SystemExit(f"cannot build the peer: {archive.name} has sha256 {found}, pinned is {sha256}")
        part = folder / "source.part"
        with tarfile.open(archive) as packed:
            packed.extractall(part, filter="data")
        part.rename(unpacked)
    return next(unpacked.glob("*/vendor/llama.cpp"))


def _run(*argv: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(a) for a in argv], check=True, env=env)


@contextmanager
def llama_server(programs: Path, file: Path, shape: Shape, *, unified: bool) -> Iterator[int]:
    """Its port, once it answers. Its environment is untouched: so its users run it."""
    port, cache = free_port(), "--kv-unified" if unified else "--no-kv-unified"
    argv = [programs / "llama-server", "-m", file, "--port", port, "-c", shape.cells, "-np", shape.slots,
            cache, "-t", shape.threads, "-fa", "on", "--no-webui"]  # fmt: skip
    with subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: process.poll() is not None or _answers(port), 120)
            if process.poll() is not None:
                raise RuntimeError(f"llama-server ended with {process.returncode}: {argv}")
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def llama_bench(programs: Path, file: Path, depth: int, threads: int) -> float:
    """Tokens a second of 64 tokens at this depth: the mean of three."""
    argv = [programs / "llama-bench", "-m", file, "-p", 0, "-n", 64, "-d", depth, "-fa", 1, "-t", threads, "-r", 3,
            "-o", "json"]  # fmt: skip
    done = subprocess.run([str(a) for a in argv], check=True, capture_output=True, env={**os.environ, **SPIN})
    return float(json.loads(done.stdout)[0]["avg_ts"])
