"""Builds llama-server from the very source that our wheel is made of, and runs it beside ours."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.rig import FILE_PATH, free_port, until

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "serving"
VERSION = "0.3.36"


def build() -> Path:
    """The llama-server program; the first call downloads the sdist and compiles for some minutes."""
    program = CACHE / "build" / "bin" / "llama-server"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    source = next(CACHE.glob("llama_cpp_python-*/vendor/llama.cpp"), None) or _source()
    uv, tools = ROOT / ".cache" / "uv" / "bin" / "uv", CACHE / "tools"
    _run(uv, "venv", "-q", "--allow-existing", "--python", sys.executable, tools)
    _run(uv, "pip", "install", "-q", "--python", tools / "bin" / "python", "cmake", "ninja")
    env = {**os.environ, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    switches = {"LLAMA_CURL": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF", "GGML_NATIVE": "ON",
                "LLAMA_BUILD_COMMON": "ON", "LLAMA_BUILD_TOOLS": "ON", "LLAMA_BUILD_SERVER": "ON"}  # fmt: skip
    options = ["-DCMAKE_BUILD_TYPE=Release", *(f"-D{name}={value}" for name, value in switches.items())]
    _run("cmake", "-S", source, "-B", CACHE / "build", "-G", "Ninja", *options, env=env)
    _run("cmake", "--build", CACHE / "build", "--target", "llama-server", env=env)
    return program


def _source() -> Path:
    wanted = [f"llama-cpp-python=={VERSION}", "--no-deps", "--no-binary", "llama-cpp-python", "-d", CACHE]
    _run(sys.executable, "-m", "pip", "download", "-q", *wanted)
    with tarfile.open(next(CACHE.glob("llama_cpp_python-*.tar.gz"))) as archive:
        archive.extractall(CACHE, filter="data")
    return next(CACHE.glob("llama_cpp_python-*/vendor/llama.cpp"))


def _run(*argv: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(a) for a in argv], check=True, env=env)


@contextmanager
def llama_server(program: Path, *, slots: int, cells: int, threads: int) -> Iterator[int]:
    """Its port, once it answers."""
    port = free_port()
    argv = [program, "-m", FILE_PATH, "--port", port, "-c", cells, "-np", slots, "--kv-unified", "-t", threads,
            "-fa", "on", "--no-webui"]  # fmt: skip
    with subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(port), 120)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
